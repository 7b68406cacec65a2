"""When a job fires, and when it does not (decision 11): what is due, what is late, where the last run is in the way.

All times are milliseconds of the calendar: by the system's clock, which can be set. A firing is known by its job and by
the time that it was *planned* for, whenever it happens.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.messages import Requirement, TaskSpec
    from broker.messages.schedules import Misfire, Overlap
    from edge_agent.rules.timing import Timing

MISSED = "it came too late: the worker did not run then, or its clock was set"
PASSED_OVER = "a later one was due as well"
OVERLAP = "the last run has not ended"

MAX_ID = 128
_HASH_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its worker runs it.

    Attributes:
        key: Source and name, `file:backup`: what tells it from every other job of the worker.
        seed: What makes its delays other ones than those of other workers.
        version: The fingerprint of its times: where that has changed, it is another job.
        is_kept: Whether it is known over restarts how far it came. Else it begins anew with each.

    """

    key: str
    timing: Timing
    spec: TaskSpec
    seed: str = ""
    version: str = ""
    jitter_ms: int = 0
    misfire: Misfire = "skip"
    grace_ms: int = 60_000
    overlap: Overlap = "skip"
    end_ms: int | None = None
    requires: Mapping[str, Requirement]
    is_kept: bool = True

    def after(self, at: int) -> int | None:
        """Return the first time after `at` that a firing is planned for."""
        planned = self.timing.after(at)
        return None if planned is None or (self.end_ms is not None and planned > self.end_ms) else planned

    def latest(self, after: int, until: int) -> int | None:
        """Return the last such time after `after` and not after `until`."""
        return self.timing.latest(after, until if self.end_ms is None else min(until, self.end_ms))

    def due(self, planned: int) -> int:
        """Return when a firing happens that is planned for `planned`: the same whenever it is asked."""
        if not self.jitter_ms:
            return planned
        digest = hashlib.blake2b(f"{self.seed}\0{self.key}\0{planned}".encode(), digest_size=8).digest()
        return planned + int.from_bytes(digest) % (self.jitter_ms + 1)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a job has come.

    Attributes:
        base: Everything that was planned up to here is decided.
        kept: The same as the disk has it. It is ahead of `base` where the clock was set back since.
        task: The last run.
        waits: Whether a firing waits for that to end.

    """

    base: int
    kept: int
    task: str | None = None
    waits: bool = False

    @classmethod
    def at(cls, base: int, task: str | None = None) -> Mark:
        """Return the mark of a job that has come to `base`; one that is new has come to where the clock is."""
        return cls(base, base, task)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due before `until`; None is never."""

    until: int | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A firing waits for the last run to end; where it `replaces` that, it should end now."""

    replaces: bool


@dataclass(frozen=True, slots=True)
class Skip:
    """What was planned from `first` to `last` is not fired."""

    first: int
    last: int
    reason: str

    @property
    def through(self) -> int:
        """Up to where it decides."""
        return self.last


@dataclass(frozen=True, slots=True)
class Fire:
    """What was planned for `planned` is fired now, and stands for what was `passed` over before it."""

    planned: int
    passed: Skip | None = None

    @property
    def through(self) -> int:
        """Up to where it decides."""
        return self.planned


Decision = Wait | Hold | Skip | Fire


def look(job: Job, mark: Mark, now: int, *, is_busy: bool) -> Decision:
    """Return what to do about a job now; `is_busy` is whether its last run goes on.

    However long nobody has looked, and however far the clock was set: there is one decision, about the last of what is
    due, and the next time that is planned then is after `now`.
    """
    first = job.after(mark.base)
    if first is None:
        return Wait(None)
    if job.due(first) > now:
        return Wait(job.due(first))
    last = job.latest(mark.base, now - job.jitter_ms) or first
    if job.misfire == "skip" and not mark.waits and now - job.due(last) > job.grace_ms:
        return Skip(first, last, MISSED)
    if is_busy and job.overlap == "skip":
        return Skip(first, last, OVERLAP)
    if is_busy:
        return Hold(replaces=job.overlap == "replace")
    before = job.latest(mark.base, last - 1) if last > first else None
    return Fire(last, Skip(first, before, PASSED_OVER) if before is not None else None)


def follow(mark: Mark, now: int, seen: int) -> Mark:
    """Return a mark as it counts at `now`, wherever the clock was set to; it was looked last at `seen`, by this clock.

    Set back, the job goes on from there, and what this clock came past before it was looked at is due; what has fired
    then already, its id says. Set to where it was before, what was decided then counts again.
    """
    base = min(mark.base, seen)
    if base < mark.kept <= now:
        base = mark.kept
    return mark if base == mark.base else replace(mark, base=base)


def shift(job: Job, mark: Mark, by: int) -> Mark:
    """Return a mark after the clock was set forward by `by` milliseconds: an interval is as long as it was.

    Where the disk is ahead, this clock began behind the one that had been right before, as one without a battery does.
    Set right, it goes on from what the disk has: an interval that outlasts each run of the agent comes to its end.
    """
    if job.timing.follows_clock:
        return mark
    base = mark.base + by
    return replace(mark, base=base, kept=base) if mark.base == mark.kept else replace(mark, base=min(base, mark.kept))


def worth_seconds(job: Job, planned: int) -> float | None:
    """Return how long a firing is worth beginning that cannot run now: until the next is due."""
    following = job.after(planned)
    return None if following is None else (following - planned) / 1000


def task_id(key: str, stamp: str, worker: str) -> str:
    """Return the id of a firing: the same whenever it is asked, and no other firing's.

    Args:
        key: Of which job.
        stamp: When it is planned, in letters and digits.
        worker: Who fires it.

    """
    tail = f":{stamp}:{worker}"
    room = MAX_ID - len(tail)
    if len(key) > room:
        mark = hashlib.blake2b(key.encode()).hexdigest()[:_HASH_DIGITS]
        key = f"{key[: room - len(mark) - 1]}-{mark}"
    return key + tail
