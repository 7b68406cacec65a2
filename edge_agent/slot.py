"""One attempt in a slot: begun, or taken up from an earlier run of the agent, and seen to its end."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.messages import Outcome
from edge_agent.context import TaskContext
from edge_agent.execution import Execution
from edge_agent.rules.attempts import Ending

if TYPE_CHECKING:
    from edge_agent.executors import Executor
    from edge_agent.logs import Logs
    from edge_agent.record import Record
    from edge_agent.rules.attempts import Held
    from edge_agent.store.journal import Journal

DIED = "the worker died while it ran"


class Slot:
    """An attempt that runs.

    Args:
        held: The attempt.
        executor: Does the work.
        record: Where its beginning is noted.
        journal: Where it reports.
        logs: Where its output goes.

    """

    def __init__(self, held: Held, executor: Executor, *, record: Record, journal: Journal, logs: Logs) -> None:
        self.held = held
        self._record = record
        self._logs = logs
        limit = held.spec.timeout_seconds
        context = TaskContext(
            *held.ref,
            report=journal.post,
            clock=now_ms,
            keep=partial(record.keep, held.ref),
            log=logs.begin(held.ref),
            timeout_seconds=limit,
        )
        self._execution = Execution(executor, context, timeout_seconds=limit)
        self.stop = self._execution.stop
        self.leave = self._execution.leave

    async def begin(self) -> Ending:
        """Run it from its beginning. Raises `CannotRunHere`."""
        try:
            return await self._note_beginning() or await self._execution.run(self.held.spec.params)
        finally:
            self._logs.end(self.held.ref)

    async def resume(self) -> Ending:
        """Go on with what was begun, if that is possible."""
        try:
            ending = await self._execution.resume(self.held.spec.params, self.held.handle)
        finally:
            self._logs.end(self.held.ref)
        return ending or Ending(Outcome.INTERRUPTED, error=DIED)

    async def _note_beginning(self) -> Ending | None:
        """Say that it begins, unless it is too late for that."""
        held = self.held
        at = now_ms()
        if late := _too_late(held, at):
            return late
        if held.spec.idempotent and not self._record.is_refused:
            # The mark goes to the disk with the next commit. A crash before that runs the attempt again, which harms
            # nothing here, and saves every short task an fsync.
            self._record.begun(held, at)
            return None
        await self._record.begin(held, at)  # on a full disk nothing begins whose end could not be kept
        return _too_late(held, now_ms())


def _too_late(held: Held, at: int) -> Ending | None:
    if held.expires_at is None or at < held.expires_at:
        return None
    return Ending(Outcome.EXPIRED, error=f"not begun within {held.spec.expires_in_seconds:g} s")
