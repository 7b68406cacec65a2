"""Work that blocks, in a thread of its own.

A pool would be exhausted by as many containers as it has threads, and its threads would keep the program from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def in_thread(work: Callable[[], Result], name: str) -> asyncio.Future[Result]:
    """Begin `work`, and return the future of what it returns or raises. Nobody has to wait for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            future.exception()  # it was looked at: who has stopped waiting is not to be warned of it
        else:
            future.set_result(result)  # type: ignore[arg-type]  # it is what `work` returned

    def run() -> None:
        result: Result | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  it is raised where the future is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
