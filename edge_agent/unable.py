"""Attempts that were taken and cannot run here at the moment: the engine is gone, for example.

Where a hub is there, they are handed back to it. Alone, they wait until they can run.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from edge_agent.errors import StorageClosed
from edge_agent.handback import Declined
from edge_agent.rules.endings import legible

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.errors import CannotRunHere
    from edge_agent.handback import HandBack
    from edge_agent.rules.attempts import Held, Ref

RETRY_SECONDS = 30.0
"""When it is tried again to run what could not be begun: by this worker alone, or by asking the hub for it again."""


class Unable:
    """What cannot run here at the moment.

    Args:
        hand_back: Gives attempts to the hub.
        hub_is_there: Whether there is one.
        retry: Called to try everything again.
        say_hello: Called to let the hub offer again what was handed back.

    """

    def __init__(
        self,
        hand_back: HandBack,
        hub_is_there: Callable[[], bool],
        *,
        retry: Callable[[], None],
        say_hello: Callable[[], None],
    ) -> None:
        self._hand_back = hand_back
        self._hub_is_there = hub_is_there
        self._retry = retry
        self._say_hello = say_hello
        self._attempts: dict[Ref, Declined] = {}
        self._look = asyncio.Event()
        self._retry_at: float | None = None

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, held: Held, why: str, *, told: bool) -> None:
        """Put an attempt in; `told` is whether the hub learns why from our next birth."""
        self._attempts[held.ref] = Declined(held, why, busy=told)
        self._look.set()

    def add_refused(self, held: Held, refused: CannotRunHere) -> None:
        """Put an attempt in that was not begun."""
        self.add(held, legible(refused.reason), told=False)
        if refused.retryable:
            self._retry_soon()

    def remove(self, ref: Ref) -> Held | None:
        """Take one attempt out, if it is here."""
        declined = self._attempts.pop(ref, None)
        return None if declined is None else declined.held

    def clear(self) -> list[Held]:
        """Take out all."""
        everything = [declined.held for declined in self._attempts.values()]
        self._attempts.clear()
        return everything

    def on_hub(self) -> None:
        """Look again: a hub is there now."""
        self._look.set()

    async def run(self) -> None:
        """Hand back what the hub can place elsewhere, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._retry_at):
                    await self._look.wait()
            self._look.clear()
            if self._retry_at is not None and loop.time() >= self._retry_at:
                self._retry_at = None
                self._retry()
                self._say_hello()
            if self._hub_is_there():
                await self._give_back()

    async def _give_back(self) -> None:
        attempts, self._attempts = self._attempts, {}
        with contextlib.suppress(StorageClosed):  # what is held is read from the file, by the next who opens it
            if not await self._hand_back.decline(list(attempts.values())):
                self._attempts = attempts | self._attempts
                self._retry_soon()

    def _retry_soon(self) -> None:
        if self._retry_at is None:
            self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
            self._look.set()
