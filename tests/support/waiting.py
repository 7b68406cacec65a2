"""Waiting for something to come true, woken by what happens and never by the clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 40.0
"""When a wait is given up: far beyond what anything here takes."""

Found = TypeVar("Found")


class Changes:
    """Something that changes, and tells so by calling `wake`."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def wake(self, *_: Any) -> None:  # noqa: ANN401  it is called with whatever changed
        """Let everybody look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, look: Callable[[], Awaitable[Found | None]]) -> Found:
        """Return the first that `look` finds, which is asked now and after each change."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                changed = self._changed
                found = await look()
                if found is not None:
                    return found
                await changed.wait()
