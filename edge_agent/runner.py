"""Runs attempts in slots: queue, time limits, cancellation, and the commit of every end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broker.backoff import delay_seconds
from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import Outcome, TaskDeclined, TaskStarted
from edge_agent import inbox
from edge_agent.context import TaskContext
from edge_agent.errors import StorageClosed, StorageError
from edge_agent.execution import Execution
from edge_agent.rules import endings
from edge_agent.rules.admission import STOPPING, Take
from edge_agent.rules.attempts import Ending, Held, Ref
from edge_agent.rules.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_agent.answers import Answers
    from edge_agent.database import Database, Transaction
    from edge_agent.executors import Executor
    from edge_agent.journal import Journal

DIED = "the worker died while it ran"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Running:
    """An attempt in a slot."""

    held: Held
    execution: Execution


class Runner:
    """Holds attempts from the commit that took them to the commit of their end.

    Args:
        slots: How many run at one time.
        executors: What runs, by kind.
        database: Where ends are committed,
        journal: in one transaction with their report,
        answers: and with the answer to who asked.

    """

    def __init__(
        self,
        *,
        slots: int,
        executors: Mapping[str, Executor],
        database: Database,
        journal: Journal,
        answers: Answers,
    ) -> None:
        self.slots = slots
        self._executors = executors
        self._database = database
        self._journal = journal
        self._answers = answers
        self._waiting = Waiting()
        self._running: dict[Ref, _Running] = {}
        self._ending: set[Ref] = set()
        self._latest: dict[str, Ref] = {}
        self._group: asyncio.TaskGroup | None = None
        self._closed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> list[Ref]:
        """The attempts that run now."""
        return list(self._running)

    @property
    def queued(self) -> int:
        """How many attempts wait for a slot."""
        return len(self._waiting)

    @property
    def held(self) -> list[Ref]:
        """Every attempt whose end is not committed."""
        return list(self._latest.values())

    def holds(self, task: str) -> bool:
        """Tell whether an attempt at `task` is held."""
        return task in self._latest

    async def load(self) -> None:
        """Take up what an earlier run held: what it had begun was interrupted, what was queued runs."""
        attempts = await self._database.commit(inbox.held)
        begun = [one for one in attempts if one.running]
        if begun:
            interrupted = Ending(Outcome.INTERRUPTED, error=DIED)
            await self._database.commit(partial(self.write_ends, ends=[(one, interrupted) for one in begun]))
            log.warning("tasks_interrupted", tasks=[one.ref.task for one in begun])
        self.submit(one for one in attempts if not one.running)

    async def run(self) -> None:
        """Run what is submitted, until `close`."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._fill_slots()
            await self._closed.wait()
            self._group = None

    def submit(self, attempts: Iterable[Held]) -> None:
        """Queue attempts that are committed. A newer attempt at a task stops the older one."""
        for held in attempts:
            older = self._latest.get(held.ref.task)
            if older is not None:
                self.cancel(older, f"superseded by attempt {held.ref.attempt}")
            self._latest[held.ref.task] = held.ref
            self._waiting.add(held)
        self._fill_slots()

    def cancel(self, ref: Ref, reason: str) -> None:
        """End an attempt as cancelled, if it is held and has not ended."""
        ending = Ending(Outcome.CANCELLED, error=reason or "cancelled")
        running = self._running.get(ref)
        if running is not None:
            running.execution.stop(ending)
        held = self._waiting.remove(ref)
        if held is not None and self._group is not None:
            self._group.create_task(self._commit_end(held, ending), name=f"end-{ref.task}")

    def write_ends(self, transaction: Transaction, ends: Iterable[tuple[Held, Ending]]) -> None:
        """Write the end of attempts to inbox and journal, and what is answered, within `transaction`."""
        at = now_ms()
        events = []
        for held, ending in ends:
            event = endings.finished(held, ending, at)
            inbox.end(transaction, [held], at)
            if held.reply:
                self._answers.add(transaction, held.reply, endings.reply(event))
            events.append(event)
        self._journal.append(transaction, events)

    # -- stopping ----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Begin nothing more."""
        self._closed.set()

    async def hand_back(self) -> None:
        """Give what is queued back to the hub, which places it elsewhere."""
        attempts = self._waiting.clear()
        if attempts:
            await self._database.commit(partial(self._write_declines, attempts=attempts))
            log.info("tasks_handed_back", count=len(attempts))

    async def idle(self) -> None:
        """Wait until nothing runs, and every end is committed."""
        await self._idle.wait()

    def interrupt(self) -> None:
        """End what still runs."""
        for running in list(self._running.values()):
            running.execution.stop(Ending(Outcome.INTERRUPTED, error="the worker was stopped while it ran"))

    def _write_declines(self, transaction: Transaction, attempts: list[Held]) -> None:
        inbox.release(transaction, [one.ref for one in attempts])
        at = now_ms()
        events = [
            TaskDeclined(
                at=at,
                task=one.ref.task,
                attempt=one.ref.attempt,
                reason=STOPPING,
                injected=Take(one).injected,
            )
            for one in attempts
        ]
        self._journal.append(transaction, events)

    # -- one attempt -------------------------------------------------------------------------------------------------

    def _fill_slots(self) -> None:
        while self._group and not self._closed.is_set() and self._waiting and len(self._running) < self.slots:
            self._begin(self._group, self._waiting.pop())

    def _begin(self, group: asyncio.TaskGroup, held: Held) -> None:
        executor = self._executors.get(held.spec.kind)
        if executor is None:  # it was taken by an earlier run, which had another plugin
            ending = endings.failure(f"{held.spec.kind} does not run here any more")
            group.create_task(self._commit_end(held, ending), name=f"end-{held.ref.task}")
            return
        context = TaskContext(*held.ref, report=self._journal.post, clock=now_ms)
        execution = Execution(executor, context, timeout_seconds=held.spec.timeout_seconds)
        self._running[held.ref] = running = _Running(held, execution)
        self._idle.clear()
        group.create_task(self._attend(running), name=f"task-{held.ref.task}")

    async def _attend(self, running: _Running) -> None:
        held = running.held
        try:
            ending = await self._begin_and_execute(running)
        finally:
            del self._running[held.ref]
            self._ending.add(held.ref)
        self._fill_slots()
        await self._commit_end(held, ending)

    async def _begin_and_execute(self, running: _Running) -> Ending:
        held = running.held
        at = now_ms()
        if held.expires_at is not None and at >= held.expires_at:
            return Ending(Outcome.EXPIRED, error=f"not begun within {held.spec.expires_in_seconds:g} s")
        begun = partial(self._write_begun, held=held, at=at)
        if held.spec.idempotent:
            # The mark goes to the disk with the next commit. A crash before that runs the attempt again, which harms
            # nothing here, and saves every short task an fsync.
            self._database.post(begun)
        elif not await self._stored(begun):
            return endings.failure("its beginning could not be stored")
        return await running.execution.run(held.spec.params)

    def _write_begun(self, transaction: Transaction, held: Held, at: int) -> None:
        inbox.mark_running(transaction, [held.ref])
        self._journal.append(transaction, [TaskStarted(at=at, task=held.ref.task, attempt=held.ref.attempt)])

    async def _commit_end(self, held: Held, ending: Ending) -> None:
        self._ending.add(held.ref)
        self._idle.clear()
        await self._stored(partial(self.write_ends, ends=[(held, ending)]))
        log.debug("task_ended", task=held.ref.task, attempt=held.ref.attempt, outcome=ending.outcome.value)
        self._ending.discard(held.ref)
        if self._latest.get(held.ref.task) == held.ref:
            del self._latest[held.ref.task]
        if not self._running and not self._ending:
            self._idle.set()

    async def _stored(self, work: partial[None]) -> bool:
        """Commit `work`, however long the disk is full; tell whether it was done before the database was closed."""
        failures = 0
        while True:
            try:
                await self._database.commit(work)
            except StorageClosed:
                return False
            except StorageError as error:
                failures += 1
                wait = delay_seconds(failures, random.random())  # noqa: S311  jitter is no secret
                log.error("not_stored", reason=error.reason, next_try_seconds=round(wait, 1))  # noqa: TRY400
                await asyncio.sleep(wait)
            else:
                return True
