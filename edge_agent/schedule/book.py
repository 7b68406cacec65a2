"""Which jobs a worker has, and how far each has come; kept on the disk as far as it must outlive the agent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.log import get_logger
from broker.messages import NO_REVISION
from edge_agent.rules import schedule as rules
from edge_agent.rules.schedule import Job, Mark
from edge_agent.schedule.jobs import job_of, job_of_timer
from edge_agent.store import schedules as store
from edge_agent.store.schedules import KeptMark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from broker.messages import ScheduleJob, Schedules
    from edge_agent.framework import Timer
    from edge_agent.schedule.jobs import Source
    from edge_agent.store.database import Database, Transaction

log = get_logger(__name__)


class Book:
    """The jobs, by their keys, each with its mark.

    Args:
        written: The jobs of the worker's file.
        timers: Those of its handlers.
        database: Keeps what the hub has pushed, and the marks.

    Attributes:
        revision: Of what the hub has pushed, and is on the disk.

    """

    def __init__(self, written: Sequence[ScheduleJob], timers: Sequence[Timer], database: Database) -> None:
        self._written = written
        self._timers = timers
        self._database = database
        self._seed = ""
        self._jobs: dict[str, Job] = {}
        self._marks: dict[str, Mark] = {}
        self.revision = NO_REVISION

    @property
    def jobs(self) -> Sequence[Job]:
        """Every job that there is now."""
        return list(self._jobs.values())

    @property
    def marks(self) -> Sequence[Mark]:
        """How far they have come."""
        return list(self._marks.values())

    async def load(self, worker: str, now: int) -> None:
        """Take up what earlier runs left, at `now` milliseconds by the calendar."""
        self._seed = worker
        marks = await self._database.read(store.marks)
        pushed = await self._pushed()
        own = [*_usable(self._written, "file", worker), *(job_of_timer(timer) for timer in self._timers)]
        self._open([*own, *_usable(pushed, "hub", worker)], marks, now)
        self._save(self.jobs)

    async def push(self, order: Schedules, now: int) -> None:
        """Have what the hub pushes, and no more what it pushed before; return when it is on the disk.

        Raises:
            StorageError: If it could not be stored: all is as it was.

        """
        stay = [job for job in self._jobs.values() if not job.key.startswith("hub:")]
        jobs = [*stay, *_usable(order.jobs, "hub", self._seed)]
        await self._database.commit(partial(store.keep_pushed, pushed=order), durable=True)
        known = {job.key: self._kept(job) for job in self._jobs.values()}
        self._open(jobs, known, now)
        self.revision = order.revision
        self._save(self.jobs)
        log.info("schedules_pushed", revision=order.revision, jobs=len(order.jobs))

    def mark(self, job: Job) -> Mark | None:
        """Return how far a job has come; None if there is no such job any more."""
        return self._marks.get(job.key) if self._jobs.get(job.key) is job else None

    def keep(self, job: Job, mark: Mark) -> None:
        """Note how far a job has come, unless it is none any more, or has other times by now."""
        current = self._jobs.get(job.key)
        if current is not None and current.version == job.version:
            self._marks[job.key] = mark

    def write(self, transaction: Transaction, job: Job, mark: Mark) -> None:
        """Keep how far a job has come, within `transaction`."""
        if job.is_kept:
            store.save_marks(transaction, [KeptMark(job.key, job.version, mark.base, mark.task)])

    def shift(self, by: int) -> None:
        """Follow the clock, which was set forward by `by` milliseconds."""
        for job in self._jobs.values():
            self._marks[job.key] = rules.shift(job, self._marks[job.key], by)
        self._save([job for job in self.jobs if not job.timing.follows_clock])

    async def _pushed(self) -> Sequence[ScheduleJob]:
        try:
            pushed = await self._database.read(store.pushed)
        except ValueError as error:  # its revision stays unsaid, so the hub pushes it again
            log.error("pushed_schedules_not_understood", reason=str(error))  # noqa: TRY400
            return ()
        self.revision = pushed.revision
        return pushed.jobs

    def _open(self, jobs: Iterable[Job], known: Mapping[str, KeptMark], now: int) -> None:
        before, self._jobs = self._jobs, {job.key: job for job in jobs}
        marks, self._marks = self._marks, {}
        for key, job in self._jobs.items():
            stays = key in before and before[key].version == job.version
            self._marks[key] = marks[key] if stays else _resumed(job, known.get(key), now)

    def _kept(self, job: Job) -> KeptMark:
        mark = self._marks[job.key]
        return KeptMark(job.key, job.version, max(mark.base, mark.kept), mark.task)

    def _save(self, jobs: Iterable[Job]) -> None:
        """Have on the disk how far jobs have come, and nothing of what is no job any more."""
        kept = [self._kept(job) for job in jobs if job.is_kept]
        self._database.post(partial(_save, all_jobs=frozenset(self._jobs), kept=kept))


def _save(transaction: Transaction, all_jobs: frozenset[str], kept: Sequence[KeptMark]) -> None:
    store.forget_others(transaction, all_jobs)
    store.save_marks(transaction, kept)


def _resumed(job: Job, kept: KeptMark | None, now: int) -> Mark:
    """Return how far a job has come that is new, or was before this start, or has other times now."""
    if kept is None:
        return Mark.at(now)
    return Mark.at(kept.base if job.is_kept and kept.version == job.version else now, kept.task)


def _usable(written: Iterable[ScheduleJob], source: Source, seed: str) -> Iterator[Job]:
    for one in written:
        if one.enabled:
            try:
                yield job_of(one, source, seed)
            except ValueError as error:
                log.error("job_not_usable", job=f"{source}:{one.name}", reason=str(error))  # noqa: TRY400
