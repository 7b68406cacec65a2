"""One run of an executor: its time limit, how it is stopped, and what its end is called."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from broker.log import get_logger
from broker.messages import Outcome
from edge_agent.errors import CannotRunHere, TaskFailed, TaskInterrupted
from edge_agent.rules import endings
from edge_agent.rules.attempts import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from pydantic import JsonValue

    from edge_agent.context import TaskContext
    from edge_agent.executors import Executor

log = get_logger(__name__)


class Execution:
    """Runs an executor once, and never raises what the executor does.

    Args:
        executor: Does the work.
        context: What it has at hand.
        timeout_seconds: How long it may take.

    """

    def __init__(self, executor: Executor, context: TaskContext, *, timeout_seconds: float | None = None) -> None:
        self._executor = executor
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._scope: asyncio.Timeout | None = None
        self._stopped: Ending | None = None
        self._task: asyncio.Task[Any] | None = None

    def stop(self, ending: Ending) -> None:
        """End it, as `ending`. The first word counts; after the end it says nothing."""
        if self._stopped is None:
            self._stopped = ending
            self._context.cancel()
            if self._scope is not None and not self._scope.expired():
                self._scope.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> bool:
        """Leave it alone, if its work outlives the agent, which stops; tell whether that is so."""
        if self._stopped is not None or self._task is None or not self._context.outlives_agent:
            return False
        self._context.leave()
        self._task.cancel()
        return True

    async def run(self, params: Mapping[str, JsonValue]) -> Ending:
        """Run it to its end. Raises `CannotRunHere`."""
        self._task = asyncio.current_task()
        if self._stopped is not None:
            return self._stopped
        return await self._see_through(self._executor.run(params, self._context))

    async def resume(self, params: Mapping[str, JsonValue], handle: JsonValue) -> Ending | None:
        """Take up what an earlier run of the agent has begun, and see it to its end; None if that is not possible.

        Its time limit counts from its beginning, where the executor knows that, and else anew.
        """
        self._task = asyncio.current_task()
        try:
            work = await self._executor.reattach(params, self._context, handle)
        except Exception as error:
            log.warning("task_not_taken_up", task=self._context.task_id, kind=self._executor.kind, exc_info=error)
            return self._stopped
        return self._stopped if work is None else await self._see_through(work)

    async def _see_through(self, work: Awaitable[Any]) -> Ending:
        scope = asyncio.timeout(0 if self._stopped else self._left_seconds())
        try:
            async with scope:
                self._scope = scope
                result = await work
        except TaskFailed as failed:
            return endings.failure(failed.error, failed.result)
        except TaskInterrupted as interrupted:
            return Ending(Outcome.INTERRUPTED, interrupted.result, endings.legible(interrupted.error))
        except CannotRunHere:
            if self._stopped is None:
                raise
            return self._stopped
        except asyncio.CancelledError as error:
            if _is_cancelled():  # the agent ends
                raise
            return self._failed(error)  # something that the handler waited for was cancelled: that is its own failure
        except (Exception, SystemExit) as error:  # noqa: BLE001  a handler may raise anything, and harms only its task
            return self._cut_short() if scope.expired() else self._failed(error)
        finally:
            self._scope = None
            self._context.cancel()  # what it left behind in a thread can see that it is over
        return endings.success(result)

    def _left_seconds(self) -> float | None:
        limit = self._timeout_seconds
        return None if limit is None else max(0.0, limit - self._context.has_run_seconds)

    def _cut_short(self) -> Ending:
        late = Ending(Outcome.TIMED_OUT, error=f"not done within {self._timeout_seconds or 0:g} s")
        so_far = self._context.result_so_far
        return replace(self._stopped or late, result=so_far() if so_far else None)

    def _failed(self, error: BaseException) -> Ending:
        log.warning("task_failed", task=self._context.task_id, kind=self._executor.kind, exc_info=error)
        return endings.failure(endings.raised(error))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
