"""How an agent stops: in phases, each with its time, and at once when it is asked a second time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Stopping:
    """Whether the agent is to stop, and how soon."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def is_asked(self) -> bool:
        """Whether it is to stop."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Stop in order; asked again, stop at once."""
        if self._asked.is_set():
            self._hurry.set()
        self._asked.set()

    async def asked(self) -> None:
        """Return when it is to stop."""
        await self._asked.wait()

    async def pause(self, seconds: float) -> None:
        """Wait, unless it is to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)

    async def within(self, phase: Awaitable[None], seconds: float, *, hurried: float = 0.0) -> bool:
        """Give a phase its time, or the `hurried` one once we are in a hurry; tell whether it was done."""
        task = asyncio.ensure_future(phase)
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait([task, hurry], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and hurried and hurry.done():
            await asyncio.wait([task], timeout=hurried)
        for one in (task, hurry):
            one.cancel()
        return task.done() and not task.cancelled()
