"""Makes a firing a task, or a report that it is none; each in one transaction with how far its job has come."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import ScheduleSkipped, TaskRequest
from edge_agent import intake
from edge_agent.errors import StorageClosed, StorageError
from edge_agent.rules import schedule as rules
from edge_agent.rules.admission import Ignore
from edge_agent.rules.schedule import Mark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from edge_agent.intake import Intake
    from edge_agent.rules.admission import Verdict
    from edge_agent.rules.schedule import Fire, Job, Skip
    from edge_agent.runner import Runner
    from edge_agent.schedule.book import Book
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.journal import Journal

RETRY_SECONDS = 1.0
"""How often a disk that takes nothing is asked again."""

log = get_logger(__name__)


class Firing:
    """Carries out what was decided about a job.

    Args:
        book: Keeps how far it has come.
        intake: Takes its tasks.
        runner: Knows which of them have not ended.
        database: Where it is kept what was skipped,
        journal: in one transaction with its report.

    Attributes:
        worker: Whose tasks they are.

    """

    def __init__(self, book: Book, *, intake: Intake, runner: Runner, database: Database, journal: Journal) -> None:
        self._book = book
        self._intake = intake
        self._runner = runner
        self._database = database
        self._journal = journal
        self.worker = ""

    async def fire(self, job: Job, mark: Mark, fire: Fire) -> Mark:
        """Take the task of a firing; return, after the commit, how far its job has come. Raises `StorageClosed`."""
        task = rules.task_id(job.key, _stamp(fire.planned), self.worker)
        request = TaskRequest.model_construct(id=task, **dict(job.spec))
        due = intake.Firing(request, job.key, rules.worth_seconds(job, fire.planned))
        final = await self._intake.fire(due, partial(self._write_fired, job=job, mark=mark, fire=fire, task=task))
        if isinstance(final, Ignore):
            log.info("job_had_fired", job=job.key, task=task, reason="the clock was set back since")
        else:
            log.debug("job_fired", job=job.key, task=task)
        return self._after(fire, final, task, mark)

    async def skip(self, job: Job, mark: Mark, skip: Skip) -> Mark:
        """Report what is not fired; return, after the commit, how far its job has come. Raises `StorageClosed`."""
        log.warning("job_skipped", job=job.key, first=_stamp(skip.first), last=_stamp(skip.last), reason=skip.reason)
        after = Mark.at(skip.through, mark.task)
        write = partial(self._write_skipped, job=job, after=after, skip=skip)
        await until_stored(lambda: self._database.commit(write))
        return after

    def _after(self, fire: Fire, verdict: Verdict, task: str, mark: Mark) -> Mark:
        """Return how far a job has come; what had fired before is no new last run, unless it goes on."""
        is_new = not isinstance(verdict, Ignore) or self._runner.holds(task)
        return Mark.at(fire.through, task if is_new else mark.task)

    # -- in the writer's thread --------------------------------------------------------------------------------------

    def _write_fired(
        self, transaction: Transaction, verdict: Verdict, *, job: Job, mark: Mark, fire: Fire, task: str
    ) -> None:
        self._book.write(transaction, job, self._after(fire, verdict, task, mark))
        if fire.passed:
            self._journal.append(transaction, [_skipped(job, fire.passed)])

    def _write_skipped(self, transaction: Transaction, *, job: Job, after: Mark, skip: Skip) -> None:
        self._book.write(transaction, job, after)
        self._journal.append(transaction, [_skipped(job, skip)])


async def until_stored(store: Callable[[], Awaitable[None]]) -> None:
    """Do what stores something, however long the disk takes nothing. Raises `StorageClosed`."""
    while True:
        try:
            return await store()
        except StorageClosed:
            raise
        except StorageError:
            await asyncio.sleep(RETRY_SECONDS)


def _skipped(job: Job, skip: Skip) -> ScheduleSkipped:
    return ScheduleSkipped(at=now_ms(), job=job.key, planned_from=skip.first, planned_to=skip.last, reason=skip.reason)


def _stamp(at: int) -> str:
    """Write a time of the calendar as a part of an id: `20261125T030000Z`."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}{f'.{at % 1000:03d}' if at % 1000 else ''}Z"
