"""Runs a plain function in a thread of its own, which nobody can stop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from broker.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.context import TaskContext

THREAD_GRACE_SECONDS = 2.0
"""How long a thread may take to see that its attempt is over; then it is left behind, and may go on for ever."""

log = get_logger(__name__)


async def in_thread(
    function: Callable[[], Any], context: TaskContext, name: str, on_left: Callable[[asyncio.Future[Any]], None]
) -> Any:  # noqa: ANN401  what the function returns
    """Run `function` in a thread that does not keep the program from ending, as a pool's would.

    Cancelled, it waits for the thread to see that (`TaskContext.cancelled`), but not for ever: then `on_left` gets what
    is done when the thread ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    run = _Run(function, loop, future)
    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        context.cancel()
        await asyncio.wait([future], timeout=THREAD_GRACE_SECONDS)
        if not future.done():
            log.warning("handler_left_behind", task=context.task_id, kind=name, reason="its thread did not end in time")
            on_left(future)
        raise


class _Run:
    """What the thread does: the function, and what came of it is handed to the loop."""

    def __init__(
        self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]
    ) -> None:
        self._function = function
        self._loop = loop
        self._future = future

    def __call__(self) -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = self._function()
        except (StopIteration, SystemExit, KeyboardInterrupt) as error:  # which a future cannot pass on
            failure = RuntimeError(f"{type(error).__name__}: {error}")
        except BaseException as error:  # noqa: BLE001  it is the task's, whatever it is
            failure = error
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, result, failure)

    def _settle(self, result: Any, error: BaseException | None) -> None:  # noqa: ANN401
        if self._future.done():
            return
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
