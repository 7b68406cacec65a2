"""A worker's runner: slots, queue, cancellation, the commit of ends. It follows `edge_agent.runner` and `record`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from broker.messages import Outcome, TaskDeclined, TaskProgress, TaskStarted
from edge_agent.rules import admission, endings
from edge_agent.rules.admission import Take
from edge_agent.rules.attempts import Ending, Held, Ref
from edge_agent.rules.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.model.worker import Worker

SLOTS = 2


@dataclass(slots=True)
class Running:
    """An attempt in a slot."""

    held: Held
    stopped: Ending | None = None


class Runner:
    """Holds attempts from the commit that took them to the commit of their end."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._world = worker.world
        self.closed = False
        self.held: dict[Ref, Held] = {}
        self.running: dict[Ref, Running] = {}
        self.executing: set[Ref] = set()
        self._latest: dict[str, Ref] = {}
        self._waiting = Waiting()
        self._behind: dict[str, Held] = {}

    @property
    def queued(self) -> int:
        return len(self._waiting) + len(self._behind)

    def load(self) -> None:
        """Take up what an earlier run held: what was queued runs, what had begun was interrupted."""
        attempts = sorted(self._worker.disk.inbox.values(), key=lambda held: held.ref)
        for held in attempts:
            if held.running:
                self._take_up(held)
        self.submit(held for held in attempts if not held.running)

    def submit(self, attempts: Iterable[Held]) -> None:
        """Queue attempts that are committed. A newer attempt at a task stops the older one."""
        for held in attempts:
            latest = self._latest.get(held.ref.task)
            self.held[held.ref] = held
            if latest is not None and latest.attempt > held.ref.attempt:
                self._end(held, _superseded_by(latest))
                continue
            self._latest[held.ref.task] = held.ref
            if latest is not None:
                self._stop(latest, _superseded_by(held.ref))
            if any(ref.task == held.ref.task for ref in self.running):
                self._behind[held.ref.task] = held
            else:
                self._waiting.add(held)

    def cancel(self, ref: Ref, reason: str) -> None:
        self._stop(ref, Ending(Outcome.CANCELLED, error=reason or "cancelled"))

    # -- one attempt -----------------------------------------------------------------------------------------------

    @property
    def can_begin(self) -> bool:
        return not self.closed and len(self._waiting) > 0 and len(self.running) < SLOTS

    def begin_next(self) -> None:
        """Give the next attempt a slot."""
        held = self._waiting.pop()
        self.running[held.ref] = Running(held)
        if self._is_late(held):
            self._leave_slot(held.ref, Ending(Outcome.EXPIRED, error="not begun in time"))
        elif not self.waits_for_mark(held):
            # The mark goes to the disk some time soon: a crash before that lets it begin again.
            self._worker.writer.begin(self._mark_begun(held))
            self._execute(held.ref)
        else:
            self._worker.writer.begin(self._begin_marked(held))

    def waits_for_mark(self, held: Held) -> bool:
        """Whether an attempt may begin only when its mark is on the disk: it may not begin again after a crash."""
        return not held.spec.idempotent

    def progress(self, ref: Ref) -> None:
        event = TaskProgress(at=self._world.now, task=ref.task, attempt=ref.attempt, fraction=0.5)
        self._worker.journal.post([event])

    @property
    def stopped(self) -> list[Ref]:
        """The attempts that execute and were told to stop."""
        return [ref for ref in sorted(self.executing) if self.running[ref].stopped]

    def finish(self, ref: Ref, outcome: Outcome) -> None:
        """Let an executor come to its end."""
        stopped = self.running[ref].stopped
        result = f"{self._worker.name}/{ref.attempt}" if outcome is Outcome.SUCCEEDED else None
        self._leave_slot(ref, stopped or Ending(outcome, result, None if result else "it did not work"))

    def interrupt(self) -> None:
        """End what still runs: the worker stops."""
        for running in self.running.values():
            running.stopped = running.stopped or Ending(Outcome.INTERRUPTED, error="the worker was stopped")

    async def hand_back(self) -> None:
        """Give what is queued back to the hub."""
        attempts = [*self._waiting.clear(), *self._behind.values()]
        self._behind.clear()
        if attempts:
            await self._worker.journal.commit(partial(self._write_declines, attempts))
            for held in attempts:
                self._forget(held)

    # -- within ----------------------------------------------------------------------------------------------------

    def _take_up(self, held: Held) -> None:
        older = self._latest.get(held.ref.task)
        if older is not None:
            self._stop(older, _superseded_by(held.ref))
        self.held[held.ref] = held
        self._latest[held.ref.task] = held.ref
        self._end(held, Ending(Outcome.INTERRUPTED, error="the worker died while it ran"))

    def _is_late(self, held: Held) -> bool:
        return held.expires_at is not None and self._world.now >= held.expires_at

    async def _mark_begun(self, held: Held) -> None:
        await self._worker.journal.commit(partial(self._write_begun, held, self._world.now))

    async def _begin_marked(self, held: Held) -> None:
        await self._mark_begun(held)
        if self._is_late(held):
            self._leave_slot(held.ref, Ending(Outcome.EXPIRED, error="not begun in time"))
        else:
            self._execute(held.ref)

    def _write_begun(self, held: Held, at: int) -> None:
        disk = self._worker.disk
        if held.ref in disk.inbox:
            disk.inbox[held.ref] = replace(held, running=True)
        self._worker.journal.write([TaskStarted(at=at, task=held.ref.task, attempt=held.ref.attempt)])

    def _execute(self, ref: Ref) -> None:
        stopped = self.running[ref].stopped
        if stopped is not None:
            self._leave_slot(ref, stopped)
        else:
            self._world.witness.on_begun(self._worker, self.running[ref].held)
            self.executing.add(ref)

    def _leave_slot(self, ref: Ref, ending: Ending) -> None:
        running = self.running.pop(ref)
        self.executing.discard(ref)
        newer = self._behind.pop(ref.task, None)
        if newer is not None:
            self._waiting.add(newer)
        self._end(running.held, ending)

    def _stop(self, ref: Ref, ending: Ending) -> None:
        running = self.running.get(ref)
        if running is not None and running.stopped is None:
            running.stopped = ending
        held = self._waiting.remove(ref)
        behind = self._behind.get(ref.task)
        if behind is not None and behind.ref == ref:
            held = self._behind.pop(ref.task)
        if held is not None:
            self._end(held, ending)

    def _end(self, held: Held, ending: Ending) -> None:
        self._worker.writer.begin(self._commit_end(held, ending))

    async def _commit_end(self, held: Held, ending: Ending) -> None:
        await self._worker.journal.commit(partial(self._write_end, held, ending))
        self._forget(held)

    def _write_end(self, held: Held, ending: Ending) -> None:
        self._worker.disk.end(held)
        self._worker.journal.write([endings.finished(held, ending, self._world.now)])

    def _write_declines(self, attempts: list[Held]) -> None:
        for one in attempts:
            self._worker.disk.inbox.pop(one.ref, None)
        self._worker.journal.write(
            [
                TaskDeclined(
                    at=self._world.now,
                    task=one.ref.task,
                    attempt=one.ref.attempt,
                    reason=admission.STOPPING,
                    injected=Take(one).injected,
                )
                for one in attempts
            ]
        )

    def _forget(self, held: Held) -> None:
        self.held.pop(held.ref, None)
        if self._latest.get(held.ref.task) == held.ref:
            del self._latest[held.ref.task]


def _superseded_by(newer: Ref) -> Ending:
    return Ending(Outcome.CANCELLED, error=f"superseded by attempt {newer.attempt}")
