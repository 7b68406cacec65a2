"""What could not be begun here: when it is tried again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.messages import TaskSpec
from edge_agent import unable
from edge_agent.errors import CannotRunHere, NotAllowedHere
from edge_agent.handback import HandBack
from edge_agent.rules.attempts import Held, Ref
from edge_agent.unable import Unable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from edge_agent.handback import Declined


class Taker(HandBack):
    """Takes what is handed back, and keeps it for the test."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[Declined] = asyncio.Queue()

    async def decline(self, attempts: Sequence[Declined]) -> bool:
        for one in attempts:
            self.taken.put_nowait(one)
        return True


def held(task: str) -> Held:
    return Held(Ref(task, 1), TaskSpec(kind="noop"), "digest", 0)


async def test_what_is_not_allowed_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unable, "RETRY_SECONDS", 0.0)
    hand_back, greeted, hellos = Taker(), asyncio.Event(), []

    def say_hello() -> None:
        hellos.append(hand_back.taken.qsize())
        greeted.set()

    waiting = Unable(hand_back, lambda: True, retry=lambda: None, say_hello=say_hello)
    running = asyncio.create_task(waiting.run())
    async with asyncio.timeout(10):
        waiting.add_refused(held("forbidden"), NotAllowedHere("WORKER_ALLOW_MOUNTS does not allow '/etc'"))
        assert (await hand_back.taken.get()).why == "WORKER_ALLOW_MOUNTS does not allow '/etc'"
        for _ in range(5):
            await asyncio.sleep(0)
        assert hellos == []
        waiting.add_refused(held("slow"), CannotRunHere("the engine is slow"))
        assert (await hand_back.taken.get()).why == "the engine is slow"
        await greeted.wait()
    running.cancel()
    await asyncio.wait([running])


async def test_a_reason_that_is_no_text_is_told_all_the_same() -> None:
    hand_back = Taker()
    waiting = Unable(hand_back, lambda: True, retry=lambda: None, say_hello=lambda: None)
    running = asyncio.create_task(waiting.run())
    async with asyncio.timeout(10):
        waiting.add_refused(held("t"), CannotRunHere("no caf\udce9"))
        assert (await hand_back.taken.get()).why == "no caf\\udce9"
    running.cancel()
    await asyncio.wait([running])
