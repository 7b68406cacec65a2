"""Runs attempts in slots: queue, time limits, cancellation, and the commit of every end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.log import get_logger
from broker.messages import Outcome
from edge_agent.errors import CannotRunHere
from edge_agent.handback import Declined, HandBack
from edge_agent.queue import Queue
from edge_agent.record import Record
from edge_agent.rules import endings
from edge_agent.rules.admission import STOPPING
from edge_agent.rules.attempts import Ending, Held, Ref
from edge_agent.slot import DIED, Slot
from edge_agent.store import inbox
from edge_agent.unable import Unable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from edge_agent.abilities import Abilities
    from edge_agent.answers import Answers
    from edge_agent.executors import Executor
    from edge_agent.executors.handler import Handler
    from edge_agent.logs import Logs
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.journal import Journal

MOST_ENDING = 1000
"""How many ends may wait for their commit before nothing more is begun."""

log = get_logger(__name__)


class Runner:
    """Holds attempts from the commit that took them to the commit of their end.

    Of one task one attempt runs at a time: a newer one stops the older, and waits until that has let go.

    Args:
        slots: How many run at one time.
        executors: What runs, by kind.
        limited: Kinds of which only so many run at one time.
        abilities: Which of that can run now.
        database: Where ends are committed,
        journal: in one transaction with their report,
        answers: and with the answer to who asked.
        logs: Where output goes.
        hub_is_there: Whether somebody could place elsewhere what cannot run here.
        say_hello: Lets the hub know what the worker can do.

    Attributes:
        on_let_go: Told of each task of which no attempt is held any more.
        on_committed: Told of each attempt whose end is committed.

    """

    def __init__(
        self,
        *,
        slots: int,
        executors: Mapping[str, Executor],
        limited: Mapping[str, Handler],
        abilities: Abilities,
        database: Database,
        journal: Journal,
        answers: Answers,
        logs: Logs,
        hub_is_there: Callable[[], bool],
        say_hello: Callable[[], None],
    ) -> None:
        self.slots = slots
        self._executors = executors
        for handler in limited.values():
            handler.on_ended = self._fill_slots
        self._database = database
        self._journal = journal
        self._logs = logs
        self._record = Record(database=database, journal=journal, answers=answers, on_ended=self._let_go)
        self._held: dict[Ref, Held] = {}
        self._latest: dict[str, Ref] = {}
        self._hand_back = HandBack(database, journal, self._forget)
        self._unable = Unable(self._hand_back, hub_is_there, retry=self.on_abilities, say_hello=say_hello)
        self._queue = Queue(executors, limited, abilities, self._unable)
        self._running: dict[Ref, Slot] = {}
        self._ending: set[Ref] = set()
        self._group: asyncio.TaskGroup | None = None
        self.on_let_go: Callable[[str], None] = lambda _: None
        self.on_committed: Callable[[Ref], None] = lambda _: None
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
        return len(self._queue)

    def awaits_its_turn(self, ref: Ref) -> bool:
        """Tell whether an attempt is held that has not begun."""
        return ref in self._held and ref not in self._running and ref not in self._ending

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
            for slot in list(self._running.values()):
                self._attend(group, slot, slot.resume())
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
                self._queue.put_behind(held)
            else:
                self._queue.put(held)
        self._fill_slots()

    def on_abilities(self) -> None:
        """Follow what the worker can do now: begin what has waited for it, hand back what cannot be begun any more."""
        self._queue.sort_anew()
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
        await self._hand_back.decline([Declined(held, STOPPING) for held in self._queue.clear()])

    async def idle(self) -> None:
        """Wait until nothing runs, and every end is committed."""
        await self._idle.wait()

    def interrupt(self) -> None:
        """End what still runs, and leave alone what outlives the agent: its next start takes it up."""
        for slot in list(self._running.values()):
            if slot.leave():
                log.info("task_left_running", task=slot.held.ref.task, attempt=slot.held.ref.attempt)
                continue
            slot.stop(Ending(Outcome.INTERRUPTED, error="the worker was stopped while it ran"))

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
            self._open_slot(held, executor)

    def _fill_slots(self) -> None:
        while self._group and self._may_begin() and (held := self._queue.next(self._in_slots())):
            self._begin(self._group, held)

    def _in_slots(self) -> Iterable[Held]:
        return (slot.held for slot in self._running.values())

    def _may_begin(self) -> bool:
        return not self._closed.is_set() and len(self._running) < self.slots and len(self._ending) < MOST_ENDING

    def _begin(self, group: asyncio.TaskGroup, held: Held) -> None:
        executor = self._executors.get(held.spec.kind)
        if executor is None:  # it was taken by an earlier run, which had another plugin
            self._end(held, endings.failure(f"{held.spec.kind} does not run here any more"))
            return
        slot = self._open_slot(held, executor)
        self._attend(group, slot, slot.begin())

    def _open_slot(self, held: Held, executor: Executor) -> Slot:
        slot = Slot(held, executor, record=self._record, journal=self._journal, logs=self._logs)
        self._running[held.ref] = slot
        self._idle.clear()
        return slot

    def _attend(self, group: asyncio.TaskGroup, slot: Slot, work: Coroutine[None, None, Ending]) -> None:
        group.create_task(self._hold_slot(slot.held, work), name=f"task-{slot.held.ref.task}")

    async def _hold_slot(self, held: Held, work: Coroutine[None, None, Ending]) -> None:
        try:
            ending = await work
        except asyncio.CancelledError:
            del self._running[held.ref]
            self._look_idle()
            raise
        except CannotRunHere as refused:
            log.warning("task_cannot_run_here", task=held.ref.task, kind=held.spec.kind, reason=refused.reason)
            self._leave_slot(held)
            self._unable.add_refused(held, refused)
        else:
            self._leave_slot(held)
            self._end(held, ending)
        self._fill_slots()

    def _leave_slot(self, held: Held) -> None:
        """Let the slot go, and a newer attempt at the task have its turn."""
        del self._running[held.ref]
        self._queue.follow(held.ref.task)

    def _stop(self, ref: Ref, ending: Ending) -> None:
        slot = self._running.get(ref)
        if slot is not None:
            slot.stop(ending)
        held = self._queue.remove(ref)
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
        self._look_idle()
        self.on_committed(held.ref)

    def _look_idle(self) -> None:
        if not self._running and not self._ending:
            self._idle.set()

    def _forget(self, held: Held) -> None:
        self._held.pop(held.ref, None)
        if self._latest.get(held.ref.task) == held.ref:
            del self._latest[held.ref.task]
            self.on_let_go(held.ref.task)

    def _is_busy(self, task: str) -> bool:
        return any(ref.task == task for ref in self._running)

    async def _watch_record(self) -> None:
        await self._record.broken.wait()
        if self._record.error:
            raise self._record.error


def _superseded_by(newer: Ref) -> Ending:
    return Ending(Outcome.CANCELLED, error=f"superseded by attempt {newer.attempt}")
