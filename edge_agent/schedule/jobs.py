"""Makes jobs of what is written: in the worker's file, by the hub, or by `@agent.every` and `@agent.cron`."""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import TYPE_CHECKING

from broker.messages import TaskSpec
from edge_agent.rules.schedule import Job
from edge_agent.rules.timing import Every
from edge_agent.schedule.zones import zone_of

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Literal

    from broker.messages import ScheduleJob
    from edge_agent.framework import Timer
    from edge_agent.rules.timing import Timing

    Source = Literal["file", "hub", "code"]

MS = 1000

LABEL = "schedule"
"""The label of every firing: which job it is of, unless the job gives that label itself."""


def job_of(written: ScheduleJob, source: Source, seed: str) -> Job:
    """Return a job as this worker runs it.

    Args:
        written: What it says.
        source: Who says so: two sources may use the same name.
        seed: What the worker's delays come from: its name.

    Raises:
        ValueError: If it has a time zone that this host does not know.

    """
    key = f"{source}:{written.name}"
    return Job(
        key=key,
        timing=_timing(written),
        spec=labelled(written.task, key),
        seed=seed,
        version=_version(written.cron, written.every_seconds, written.timezone, written.start),
        jitter_ms=int(written.jitter_seconds * MS),
        misfire=written.misfire,
        grace_ms=int(written.misfire_grace_seconds * MS),
        overlap=written.overlap,
        end_ms=_ms(written.end),
        requires=written.requires,
    )


def job_of_timer(timer: Timer) -> Job:
    """Return the job of a handler's own timer. Raises `ValueError` as `job_of` does."""
    key = f"code:{timer.kind}"
    timing: Timing
    if timer.cron is None:
        timing = Every(max(1, int(timer.seconds * MS)))
    else:
        timing = _calendar(timer.cron, timer.timezone, None)
    return Job(
        key=key,
        timing=timing,
        spec=labelled(TaskSpec(kind=timer.kind), key),
        version=_version(timer.cron, timer.seconds, timer.timezone, None),
        misfire=timer.misfire,
        requires={},
        is_kept=timer.cron is not None,
    )


def labelled(spec: TaskSpec, key: str) -> TaskSpec:
    """Return what is done, with its job's name on it."""
    return spec.model_copy(update={"labels": {LABEL: key, **spec.labels}})


def _timing(written: ScheduleJob) -> Timing:
    if written.cron is not None:
        return _calendar(written.cron, written.timezone, _ms(written.start))
    return Every(int((written.every_seconds or 0) * MS), _ms(written.start))


def _calendar(expression: str, timezone: str, start_ms: int | None) -> Timing:
    from edge_agent.schedule.calendars import Calendar  # noqa: PLC0415  APScheduler, where there is a calendar

    return Calendar(expression, zone_of(timezone), start_ms)


def _version(*times: object) -> str:
    return hashlib.blake2b(repr(times).encode(), digest_size=8).hexdigest()


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.astimezone(UTC).timestamp() * MS)
