"""Fires what is due: what `edge_agent.rules.schedule` decides, carried out.

A loop of our own stands where APScheduler's would: after a step of the clock, or a year without power, that walks
through each firing that was missed, and it waits by a clock that stands still while the machine sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, assert_never

from broker.clock import now_ms, wall_ms
from broker.log import get_logger
from broker.requirements import unmet
from edge_agent.rules import schedule as rules
from edge_agent.rules.schedule import Fire, Hold, Mark, Skip, Wait
from edge_agent.schedule.firing import until_stored

if TYPE_CHECKING:
    from broker.messages import Schedules
    from edge_agent.abilities import Abilities
    from edge_agent.rules.schedule import Job
    from edge_agent.runner import Runner
    from edge_agent.schedule.book import Book
    from edge_agent.schedule.firing import Firing

LOOK_SECONDS = 10.0
"""How often there is a look at the clock: it may have been set, or the machine may have slept."""

STEP_MS = 1000
"""By how much the clock must jump to count as set."""

log = get_logger(__name__)


class Clockwork:
    """Fires jobs, as tasks like any other.

    Args:
        book: The jobs.
        firing: Does what is decided about them.
        runner: Knows which of their tasks have not ended.
        abilities: What a job may require to be one of this worker's.

    """

    def __init__(self, book: Book, firing: Firing, runner: Runner, abilities: Abilities) -> None:
        self._book = book
        self._firing = firing
        self._runner = runner
        self._abilities = abilities
        self._offset = wall_ms() - now_ms()
        self._looked = now_ms()
        self._changed = asyncio.Event()
        self._taking = asyncio.Lock()
        runner.on_let_go = self._on_let_go

    @property
    def revision(self) -> str:
        """Which set of the hub's is on the disk."""
        return self._book.revision

    async def load(self, worker: str) -> None:
        """Take up what earlier runs left; `worker` is whose tasks these are."""
        self._firing.worker = worker
        await self._book.load(worker, wall_ms())

    async def take(self, order: Schedules) -> None:
        """Take what the hub wants to be fired here; return when it is on the disk. Raises `StorageClosed`."""
        async with self._taking:  # the last that came is the one that counts, however long the disk takes nothing
            self._follow_clock()  # before jobs come whose marks are by the new one
            await until_stored(lambda: self._book.push(order, wall_ms()))
        self.look()

    def look(self) -> None:
        """Look soon: something has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Fire, until cancelled."""
        while True:
            self._changed.clear()
            wait = await self._look_at_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    # -- looking -----------------------------------------------------------------------------------------------------

    async def _look_at_all(self) -> float | None:
        """Do what is due, and return how many seconds there is nothing to do; None is until something changes."""
        self._follow_clock()
        looked, self._looked = self._looked, now_ms()
        dues = [await self._look_at(job, looked) for job in self._book.jobs]
        if not dues:
            return None
        soonest = min((due for due in dues if due is not None), default=None)
        if soonest is None:
            return LOOK_SECONDS
        return max(0.0, min(LOOK_SECONDS, (soonest - wall_ms() + 1) / 1000))

    async def _look_at(self, job: Job, looked: int) -> int | None:
        """Do what is due of a job, and return when the next is; None is unknown, or never.

        It was `looked` at last by the clock that nobody sets.
        """
        while (known := self._book.mark(job)) is not None and not unmet(job.requires, self._abilities.capabilities):
            now = wall_ms()
            mark = rules.follow(known, now, now - (now_ms() - looked))
            is_busy = mark.task is not None and self._runner.holds(mark.task)
            match rules.look(job, mark, now, is_busy=is_busy):
                case Wait(until):
                    self._book.keep(job, mark)
                    return until
                case Hold(replaces):
                    self._hold(job, mark, replaces=replaces)
                    return None
                case Skip() as skip:
                    self._book.keep(job, await self._firing.skip(job, mark, skip))
                case Fire() as fire:
                    self._book.keep(job, await self._firing.fire(job, mark, fire))
                case other:
                    assert_never(other)
        return None

    def _follow_clock(self) -> None:
        offset = wall_ms() - now_ms()
        by = offset - self._offset
        if abs(by) >= STEP_MS:
            log.warning("clock_was_set", by_seconds=by / 1000)
            self._offset = offset
            self._book.shift(by)

    def _on_let_go(self, task: str) -> None:
        if any(mark.waits and mark.task == task for mark in self._book.marks):
            self.look()

    def _hold(self, job: Job, mark: Mark, *, replaces: bool) -> None:
        """Let a firing wait for the last run to end; the runner tells when it has."""
        if mark.waits:
            return
        log.info("job_waits", job=job.key, for_task=mark.task, replaces=replaces)
        self._book.keep(job, Mark(mark.base, mark.kept, mark.task, waits=True))
        if replaces:
            for ref in self._runner.held:
                if ref.task == mark.task:
                    self._runner.cancel(ref, f"{job.key} fires again, and this run goes for the next")
