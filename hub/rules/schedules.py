"""Which of the hub's schedules concern a worker. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from broker.messages import ScheduleJob, Schedules, revision_of

if TYPE_CHECKING:
    from collections.abc import Iterable


class Schedule(NamedTuple):
    """A job, and where it runs: at each worker of `site`, or at `worker`, or at each that there is."""

    job: ScheduleJob
    site: str | None
    worker: str | None
    created_ms: int
    changed_ms: int

    @property
    def name(self) -> str:
        """What it is known by."""
        return self.job.name

    def concerns(self, worker: str, site: str) -> bool:
        """Tell whether a worker is to have it. What its job requires, the worker knows best, and at each moment."""
        return self.site in (None, site) and self.worker in (None, worker)

    def is_as(self, other: Schedule) -> bool:
        """Tell whether it says the same, whenever that was said."""
        return self[:3] == other[:3]


def concerning(schedules: Iterable[Schedule], worker: str, site: str) -> list[Schedule]:
    """Return those that a worker is to have, by name."""
    found = [one for one in schedules if one.job.enabled and one.concerns(worker, site)]
    return sorted(found, key=lambda one: one.name)


def order_of(schedules: Iterable[Schedule]) -> Schedules:
    """Return what a worker is told that is to have just these."""
    jobs = tuple(one.job for one in schedules)
    return Schedules(revision=revision_of(jobs), jobs=jobs)


def whom_it_may_concern(one: Schedule, schedules: Iterable[Schedule]) -> set[tuple[str, str]]:
    """Return a worker and a site for each set that `one` may be part of, `""` where any other name would do.

    They need not be there yet: what is put before the first worker comes must not be too much for it then.
    """
    places = {(other.worker or one.worker or "", other.site or one.site or "") for other in [one, *schedules]}
    return {(worker, site) for worker, site in places if one.concerns(worker, site)}
