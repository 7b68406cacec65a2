"""What runs when: a job of a worker's schedule file, which is what the hub pushes, too."""

from __future__ import annotations

import hashlib
import zoneinfo
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import to_json

from broker import cron
from broker.messages.base import MAX_TIMEOUT_SECONDS, Key, Message
from broker.messages.tasks import Requirement, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

MAX_JOB_BYTES = 32 * 1024
MAX_SET_BYTES = 192 * 1024
"""How large a job may be, as JSON, and all that are pushed to one worker: a message that every link carries."""

LOCAL = "local"
"""The time zone of the worker's host."""

NO_REVISION = ""
"""The revision of a set in which there is nothing."""

MAX_EVERY_SECONDS = 366 * 24 * 3600.0
MAX_JITTER_SECONDS = 24 * 3600.0


FIRST_YEAR, LAST_YEAR = 1970, 2999
"""When `start` and `end` may be: at the end of Python's time, in the year 9999, calendars and time zones fail."""


def _moment(at: datetime) -> datetime:
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"a time from {FIRST_YEAR} to {LAST_YEAR}")
    return at


def _cron(text: str) -> str:
    cron.parse(text)
    return text


def _zone(name: str) -> str:
    """Refuse a time zone that is not known here; the host's own is known there."""
    if name != LOCAL:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            msg = 'UTC, local, or a time zone such as "Europe/Berlin"'
            raise ValueError(msg) from None
    return name


JobName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
CronText = Annotated[str, StringConstraints(max_length=256), AfterValidator(_cron)]
ZoneName = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
Moment = Annotated[AwareDatetime, AfterValidator(_moment)]
Overlap = Literal["skip", "queue", "replace"]
Misfire = Literal["skip", "once"]


class ScheduleJob(Message):
    """A task that is fired again and again.

    Attributes:
        name: Unique within the file, or within the hub.
        cron: When; or `every_seconds` says how often. One of the two.
        timezone: Whose hours and days `cron` means. Any time zone of the IANA database, or `local`.
        jitter_seconds: Each firing is later by up to this much: other on each worker, the same on one.
        misfire: What becomes of a firing that comes too late: it is skipped, or made up for once, however many were
            missed.
        misfire_grace_seconds: How late is not too late.
        overlap: What becomes of a firing while the last run goes on: it is skipped, waits for that run's end, or ends
            it.
        start: Nothing is fired before; `every_seconds` counts from here.
        end: Nothing is planned for later.
        enabled: False is as if it were not there.
        requires: Where it does not hold, the job rests; what `task.requires` is about must run all the same.
        task: What is done.

    """

    name: JobName
    cron: CronText | None = None
    every_seconds: float | None = Field(default=None, ge=1, le=MAX_EVERY_SECONDS, validate_default=True)
    timezone: ZoneName = "UTC"
    jitter_seconds: float = Field(default=0.0, ge=0, le=MAX_JITTER_SECONDS)
    misfire: Misfire = "skip"
    misfire_grace_seconds: float = Field(default=60.0, ge=1, le=MAX_TIMEOUT_SECONDS)
    overlap: Overlap = "skip"
    start: Moment | None = None
    end: Moment | None = None
    enabled: bool = True
    requires: dict[Key, Requirement] = {}
    task: TaskSpec

    @field_validator("every_seconds")
    @classmethod
    def _either(cls, every_seconds: float | None, info: ValidationInfo) -> float | None:
        if "cron" in info.data and (info.data["cron"] is None) == (every_seconds is None):
            msg = "either cron or every_seconds, and not both"
            raise ValueError(msg)
        return every_seconds

    @field_validator("jitter_seconds")
    @classmethod
    def _within_interval(cls, jitter_seconds: float, info: ValidationInfo) -> float:
        every_seconds = info.data.get("every_seconds")
        if every_seconds is not None and jitter_seconds > every_seconds:
            raise ValueError(f"a number up to every_seconds, {every_seconds:g}")
        return jitter_seconds

    @field_validator("end")
    @classmethod
    def _after_start(cls, end: datetime | None, info: ValidationInfo) -> datetime | None:
        start = info.data.get("start")
        if start and end and end <= start:
            raise ValueError(f"a time after start, {start.isoformat()}")
        return end

    @field_validator("task")
    @classmethod
    def _for_each(cls, task: TaskSpec) -> TaskSpec:
        if task.target != "one":
            msg = 'a task whose target is "one": each worker that has the job runs it itself'
            raise ValueError(msg)
        return task


def revision_of(jobs: Iterable[ScheduleJob]) -> str:
    """Return the fingerprint of a set of jobs, in whatever order; `NO_REVISION` where there are none."""
    texts = sorted(to_json(job, by_alias=True, exclude_none=True) for job in jobs)
    if not texts:
        return NO_REVISION
    return hashlib.blake2b(b"\n".join(texts), digest_size=16).hexdigest()
