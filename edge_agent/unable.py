"""Attempts that were taken and cannot run here at the moment: the engine is gone, for example.

Where a hub is there, they are handed back to it. Alone, they wait until they can run.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from edge_agent.errors import StorageClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.handback import HandBack
    from edge_agent.rules.attempts import Held, Ref

RETRY_SECONDS = 30.0
"""How often it is tried again, alone, to run what could not be begun."""


class Unable:
    """What cannot run here at the moment.

    Args:
        hand_back: Gives attempts to the hub.
        hub_is_there: Whether there is one.
        retry: Called to try everything again.

    """

    def __init__(self, hand_back: HandBack, hub_is_there: Callable[[], bool], retry: Callable[[], None]) -> None:
        self._hand_back = hand_back
        self._hub_is_there = hub_is_there
        self._retry = retry
        self._attempts: dict[Ref, tuple[Held, str]] = {}
        self._look = asyncio.Event()

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, held: Held, why: str) -> None:
        """Put an attempt in."""
        self._attempts[held.ref] = held, why
        self._look.set()

    def remove(self, ref: Ref) -> Held | None:
        """Take one attempt out, if it is here."""
        held, _ = self._attempts.pop(ref, (None, ""))
        return held

    def clear(self) -> list[Held]:
        """Take out all."""
        everything = [held for held, _ in self._attempts.values()]
        self._attempts.clear()
        return everything

    def on_hub(self) -> None:
        """Look again: a hub is there now."""
        self._look.set()

    async def run(self) -> None:
        """Hand back what the hub can place elsewhere, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if self._attempts else None):
                    await self._look.wait()
            is_new = self._look.is_set()
            self._look.clear()
            if self._hub_is_there():
                await self._give_back()
            elif not is_new:
                self._retry()

    async def _give_back(self) -> None:
        attempts, self._attempts = self._attempts, {}
        with contextlib.suppress(StorageClosed):  # what is held is read from the file, by the next who opens it
            if not await self._hand_back.decline(list(attempts.values())):
                self._attempts = attempts | self._attempts
