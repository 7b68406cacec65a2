"""Connecting again and again, whatever is connected: with jittered backoff, never given up, always to be cancelled."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from broker.backoff import delay_seconds
from broker.errors import LinkDown
from broker.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

STABLE_AFTER_SECONDS = 5.0
"""A connection that lived this long ends a row of failures."""

Result = TypeVar("Result")

log = get_logger(__name__)


async def keep_connected(
    once: Callable[[], Coroutine[None, None, None]], on_down: Callable[[LinkDown, float], None] | None = None
) -> None:
    """Await `once()`, again whenever it raises `LinkDown` (alone or in a group); return when it does.

    Args:
        once: Connects, and uses the connection.
        on_down: Told of each failure and the seconds until the next try.

    """
    failures = 0
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await apart(once())
        except* LinkDown as group:
            down = _first(group)
        else:
            return
        lived = asyncio.get_running_loop().time() - began
        failures = 1 if lived >= STABLE_AFTER_SECONDS else failures + 1
        wait = delay_seconds(failures, random.random())  # noqa: S311  jitter is no secret
        if on_down:
            on_down(down, wait)
        await asyncio.sleep(wait)


async def apart(work: Coroutine[None, None, None]) -> None:
    """Await `work` in a task of its own, so that a cancellation of ours is never lost in it.

    Before Python 3.13 a TaskGroup that is cancelled in the very moment in which one of its tasks fails raises the
    failure alone and forgets that it was cancelled: a link inside another's group would connect again for ever.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception():
            log.debug("the link went down while it was closed", reason=str(task.exception()))
        raise
    task.result()


async def cancellable(work: Awaitable[Result]) -> Result:
    """Await what uses `asyncio.wait_for`, without losing a cancellation in it.

    Before Python 3.12 that forgets a cancellation that comes in the very moment of success: a task that was to end
    would go on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await work
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


def _first(group: BaseExceptionGroup[LinkDown]) -> LinkDown:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
