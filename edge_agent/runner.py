"""Runs attempts in slots: queue, time limits, cancellation, and the commit of every end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import Outcome
from edge_agent.context import TaskContext
from edge_agent.errors import CannotRunHere
from edge_agent.execution import Execution
from edge_agent.handback import HandBack
from edge_agent.record import Record
from edge_agent.rules import endings
from edge_agent.rules.admission import STOPPING
from edge_agent.rules.attempts import Ending, Held, Ref
from edge_agent.rules.waiting import Waiting
from edge_agent.store import inbox
from edge_agent.unable import Unable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from edge_agent.abilities import Abilities
    from edge_agent.answers import Answers
    from edge_agent.executors import Executor
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.journal import Journal

DIED = "the worker died while it ran"

MOST_ENDING = 1000
"""How many ends may wait for their commit before nothing more is begun."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Running:
    """An attempt in a slot."""

    held: Held
    execution: Execution


class Runner:
    """Holds attempts from the commit that took them to the commit of their end.

    Of one task one attempt runs at a time: a newer one stops the older, and waits until that has let go.

    Args:
        slots: How many run at one time.
        executors: What runs, by kind.
        abilities: Which of that can run now.
        database: Where ends are committed,
        journal: in one transaction with their report,
        answers: and with the answer to who asked.
        hub_is_there: Whether somebody could place elsewhere what cannot run here.

    """

    def __init__(
        self,
        *,
        slots: int,
        executors: Mapping[str, Executor],
        abilities: Abilities,
        database: Database,
        journal: Journal,
        answers: Answers,
        hub_is_there: Callable[[], bool],
    ) -> None:
        self.slots = slots
        self._executors = executors
        self._abilities = abilities
        self._database = database
        self._journal = journal
        self._record = Record(database=database, journal=journal, answers=answers, on_ended=self._let_go)
        self._held: dict[Ref, Held] = {}
        self._latest: dict[str, Ref] = {}
        self._waiting = Waiting()
        self._behind: dict[str, Held] = {}
        self._hand_back = HandBack(database, journal, self._forget)
        self._unable = Unable(self._hand_back, hub_is_there, retry=self.on_abilities)
        self._running: dict[Ref, _Running] = {}
        self._ending: set[Ref] = set()
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
        return len(self._waiting) + len(self._behind) + len(self._unable)

    @property
    def held(self) -> list[Ref]:
        """Every attempt whose end is not committed."""
        return list(self._held)

    def holds(self, task: str) -> bool:
        """Tell whether an attempt at `task` is held."""
        return task in self._latest

    async def load(self) -> None:
        """Take up what an earlier run held: what was queued runs, what had begun goes on or was interrupted."""
        attempts = await self._database.read(inbox.held)
        for held in attempts:
            if held.running and not held.problem:
                self._take_up(held)
        self.submit(held for held in attempts if held.problem or not held.running)

    async def run(self) -> None:
        """Run what is submitted, until `close`."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for running in list(self._running.values()):
                self._attend(group, running, running.execution.resume(running.held.spec.params, running.held.handle))
            self._fill_slots()
            group.create_task(self._watch_record(), name="record")
            group.create_task(self._unable.run(), name="unable")
            await self._closed.wait()

    def submit(self, attempts: Iterable[Held]) -> None:
        """Queue attempts that are committed. A newer attempt at a task stops the older one."""
        for held in attempts:
            latest = self._latest.get(held.ref.task)
            self._held[held.ref] = held
            if latest is not None and latest.attempt > held.ref.attempt:
                self._end(held, _superseded_by(latest))
                continue
            self._latest[held.ref.task] = held.ref
            if latest is not None:
                self._stop(latest, _superseded_by(held.ref))
            if held.problem:
                self._end(held, endings.failure(held.problem))
            elif self._is_busy(held.ref.task):
                self._behind[held.ref.task] = held
            else:
                self._queue(held)
        self._fill_slots()

    def on_abilities(self) -> None:
        """Follow what the worker can do now: begin what has waited for it, hand back what cannot be begun any more."""
        for held in (*self._unable.clear(), *self._waiting.clear()):
            self._queue(held)
        self._fill_slots()

    def on_hub(self) -> None:
        """Hand back what cannot run here: a hub is there now, to place it elsewhere."""
        self._unable.on_hub()

    def cancel(self, ref: Ref, reason: str) -> None:
        """End an attempt as cancelled, if it is held and has not ended."""
        self._stop(ref, Ending(Outcome.CANCELLED, error=reason or "cancelled"))

    def write_ends(self, transaction: Transaction, ends: Iterable[tuple[Held, Ending]]) -> None:
        """Write the end of attempts that were never submitted, within `transaction`."""
        self._record.write_ends(transaction, ends)

    # -- stopping ----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Begin nothing more."""
        self._closed.set()

    async def hand_back(self) -> None:
        """Give what is queued back to the hub, which places it elsewhere; on a full disk it waits for a next start."""
        attempts = [*self._waiting.clear(), *self._behind.values(), *self._unable.clear()]
        self._behind.clear()
        await self._hand_back.decline([(held, STOPPING) for held in attempts])

    async def idle(self) -> None:
        """Wait until nothing runs, and every end is committed."""
        await self._idle.wait()

    def interrupt(self) -> None:
        """End what still runs."""
        for running in list(self._running.values()):
            running.execution.stop(Ending(Outcome.INTERRUPTED, error="the worker was stopped while it ran"))

    # -- what cannot run here at the moment --------------------------------------------------------------------------

    def _queue(self, held: Held) -> None:
        """Let an attempt wait for a slot, or for what it needs."""
        why = self._abilities.why_not(held.spec) if held.spec.kind in self._executors else None
        if why is None:
            self._waiting.add(held)
        else:
            self._unable.add(held, why)

    # -- one attempt -------------------------------------------------------------------------------------------------

    def _take_up(self, held: Held) -> None:
        """Go on with an attempt that an earlier run has begun, where its executor left a handle to it."""
        older = self._latest.get(held.ref.task)
        if older is not None:
            self._stop(older, _superseded_by(held.ref))
        self._held[held.ref] = held
        self._latest[held.ref.task] = held.ref
        executor = self._executors.get(held.spec.kind)
        if executor is None or held.handle is None:
            log.warning("task_interrupted", task=held.ref.task, attempt=held.ref.attempt)
            self._end(held, Ending(Outcome.INTERRUPTED, error=DIED))
        else:
            self._running[held.ref] = self._slot(held, executor)
            self._idle.clear()

    def _fill_slots(self) -> None:
        while self._group and self._waiting and self._may_begin():
            self._begin(self._group, self._waiting.pop())

    def _may_begin(self) -> bool:
        return not self._closed.is_set() and len(self._running) < self.slots and len(self._ending) < MOST_ENDING

    def _begin(self, group: asyncio.TaskGroup, held: Held) -> None:
        executor = self._executors.get(held.spec.kind)
        if executor is None:  # it was taken by an earlier run, which had another plugin
            self._end(held, endings.failure(f"{held.spec.kind} does not run here any more"))
            return
        self._running[held.ref] = running = self._slot(held, executor)
        self._idle.clear()
        self._attend(group, running, self._begin_and_execute(running))

    def _slot(self, held: Held, executor: Executor) -> _Running:
        keep = partial(self._record.keep, held.ref)
        context = TaskContext(*held.ref, report=self._journal.post, clock=now_ms, keep=keep)
        return _Running(held, Execution(executor, context, timeout_seconds=held.spec.timeout_seconds))

    def _attend(self, group: asyncio.TaskGroup, running: _Running, work: Coroutine[None, None, Ending | None]) -> None:
        group.create_task(self._hold_slot(running.held, work), name=f"task-{running.held.ref.task}")

    async def _hold_slot(self, held: Held, work: Coroutine[None, None, Ending | None]) -> None:
        try:
            ending = await work or Ending(Outcome.INTERRUPTED, error=DIED)
        except CannotRunHere as refused:
            log.warning("task_cannot_run_here", task=held.ref.task, kind=held.spec.kind, reason=refused.reason)
            self._leave_slot(held)
            self._unable.add(held, refused.reason)
        else:
            self._leave_slot(held)
            self._end(held, ending)
        self._fill_slots()

    def _leave_slot(self, held: Held) -> None:
        """Let the slot go, and a newer attempt at the task have its turn."""
        del self._running[held.ref]
        newer = self._behind.pop(held.ref.task, None)
        if newer is not None:
            self._queue(newer)

    async def _begin_and_execute(self, running: _Running) -> Ending:
        held = running.held
        at = now_ms()
        if late := _too_late(held, at):
            return late
        if held.spec.idempotent and not self._record.is_refused:
            # The mark goes to the disk with the next commit. A crash before that runs the attempt again, which harms
            # nothing here, and saves every short task an fsync.
            self._record.begun(held, at)
        else:  # on a full disk nothing begins whose end could not be kept
            await self._record.begin(held, at)
            if late := _too_late(held, now_ms()):
                return late
        return await running.execution.run(held.spec.params)

    def _stop(self, ref: Ref, ending: Ending) -> None:
        running = self._running.get(ref)
        if running is not None:
            running.execution.stop(ending)
        held = self._waiting.remove(ref) or self._unable.remove(ref)
        behind = self._behind.get(ref.task)
        if behind is not None and behind.ref == ref:
            held = self._behind.pop(ref.task)
        if held is not None:
            self._end(held, ending)

    def _end(self, held: Held, ending: Ending) -> None:
        self._ending.add(held.ref)
        self._idle.clear()
        self._record.ended(held, ending)

    def _let_go(self, held: Held) -> None:
        """Hold an attempt no more: its end is committed."""
        self._ending.discard(held.ref)
        self._forget(held)
        self._fill_slots()
        if not self._running and not self._ending:
            self._idle.set()

    def _forget(self, held: Held) -> None:
        self._held.pop(held.ref, None)
        if self._latest.get(held.ref.task) == held.ref:
            del self._latest[held.ref.task]

    def _is_busy(self, task: str) -> bool:
        return any(ref.task == task for ref in self._running)

    async def _watch_record(self) -> None:
        await self._record.broken.wait()
        if self._record.error:
            raise self._record.error


def _too_late(held: Held, at: int) -> Ending | None:
    if held.expires_at is None or at < held.expires_at:
        return None
    return Ending(Outcome.EXPIRED, error=f"not begun within {held.spec.expires_in_seconds:g} s")


def _superseded_by(newer: Ref) -> Ending:
    return Ending(Outcome.CANCELLED, error=f"superseded by attempt {newer.attempt}")
