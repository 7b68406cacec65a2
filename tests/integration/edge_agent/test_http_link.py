"""What is particular to the link by HTTP: what shares a post, when one is due, and what the hub is told is safe."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from broker.errors import LinkDown
from broker.topics import Heartbeat, Status
from edge_agent import http_link
from edge_agent.http_link import HttpLink
from tests.integration.edge_agent.grounds import http_ground, task_in
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker.local import PrivateBroker
    from edge_agent.connection import Connection
    from tests.integration.edge_agent.grounds import HttpGround

LONG_SECONDS = 600.0


@pytest.fixture
async def ground(broker: PrivateBroker, tmp_path: Path) -> AsyncIterator[HttpGround]:
    async with http_ground(broker.url, tmp_path) as made:
        yield made


def patient(ground: HttpGround) -> HttpLink:
    """Return a link that posts only when it has something to tell."""
    assert isinstance(ground.link, HttpLink)
    return replace(ground.link, poll_interval_seconds=LONG_SECONDS, silent_after_seconds=LONG_SECONDS * 3)


async def until_safe(ground: HttpGround, *waiting: int) -> None:
    """Wait until just these letters wait at the hub."""

    async def look() -> bool | None:
        return ground.waiting_letters() == [*waiting] or None

    await ground.changes.until(look)


async def test_what_is_published_together_shares_a_post(ground: HttpGround) -> None:
    async with patient(ground).connect() as connection:
        await asyncio.gather(*(connection.publish(ground.topic(Heartbeat), b"x") for _ in range(50)))
        assert ground.posts == 2  # one began the link
    assert ground.heard_on(Heartbeat) == 50 * [b"x"]


async def test_what_is_published_during_a_post_shares_the_next(ground: HttpGround) -> None:
    async with patient(ground).connect() as connection:
        first = asyncio.ensure_future(connection.publish(ground.topic(Heartbeat), b"0"))
        while ground.posts < 2:  # noqa: ASYNC110  it is posted within some turns of the loop
            await asyncio.sleep(0)
        await asyncio.gather(first, *(connection.publish(ground.topic(Heartbeat), b"x") for _ in range(50)))
        assert ground.posts == 3


async def test_a_post_carries_so_much_and_the_next_the_rest(
    ground: HttpGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_link, "MAX_POST_BYTES", 1000)
    words = [str(number).encode() * 300 for number in range(8)]
    words[3] *= 10  # it is too large for any post, and goes alone
    async with patient(ground).connect() as connection:
        await asyncio.gather(*(connection.publish(ground.topic(Heartbeat), word) for word in words))
        assert ground.heard_on(Heartbeat) == words
        assert 5 < ground.posts < 10


async def test_what_was_published_has_been_handled(ground: HttpGround) -> None:
    async with patient(ground).connect() as connection:
        await ground.greet(connection)
        assert (await ground.hub.get("/api/workers/w1"))["state"] == "online"


async def test_what_nobody_waits_for_any_more_is_not_posted(ground: HttpGround) -> None:
    async with patient(ground).connect() as connection:
        given_up = asyncio.ensure_future(connection.publish(ground.topic(Heartbeat), b"given up"))
        other = asyncio.ensure_future(connection.publish(ground.topic(Heartbeat), b"other"))
        asyncio.get_running_loop().call_soon(given_up.cancel)
        await other
    assert ground.heard_on(Heartbeat) == [b"other"]


async def test_without_anything_to_tell_it_asks_at_its_interval(ground: HttpGround) -> None:
    async with ground.link.connect() as connection:
        await ground.greet(connection)
        await ground.assign("t1")
        assert (await task_in(connection))[0] == "t1"


async def test_what_is_acknowledged_is_told_at_once(ground: HttpGround) -> None:
    async with patient(ground).connect() as connection:
        async for incoming in connection.messages():
            assert ground.waiting_letters() == [1]
            incoming.ack()
            break
        await until_safe(ground)


async def test_only_what_is_safe_without_a_hole_is_told(ground: HttpGround) -> None:
    async with patient(ground).connect() as connection:
        await ground.greet(connection)
        for task in ("t1", "t2"):
            await ground.assign(task)
        await ground.say(connection, b"1")
        letters = [await anext(connection.messages()) for _ in range(4)]  # status, sync, and the tasks
        for late in (letters[0], letters[3], letters[2]):
            late.ack()
        await until_safe(ground, 2, 3, 4)
        letters[1].ack()
        await until_safe(ground)


async def test_a_link_that_the_hub_has_ended_is_down_and_another_begins(ground: HttpGround) -> None:
    downs: list[str] = []
    connections = 0

    async def serve(connection: Connection) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            ground.hub.hub._gateway._links.clear()  # noqa: SLF001
            async for _ in connection.messages():
                pass

    async with asyncio.timeout(PATIENCE_SECONDS):
        await ground.link.run(serve, on_down=lambda down, _: downs.append(down.reason))
    assert connections == 2
    assert len(downs) == 1
    assert downs[0].startswith("the hub answered 410: The link has ended: link is ")


async def test_a_refusal_is_told_as_the_hub_says_it(ground: HttpGround) -> None:
    async with patient(ground).connect() as connection:
        with pytest.raises(LinkDown, match=r'answered 422: .*publish\[0\]\.topic is "not/ours"'):
            await connection.publish("not/ours", b"1")


async def test_a_silent_hub_does_not_hold_up_who_leaves(ground: HttpGround, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_link, "LEAVE_TIMEOUT_SECONDS", 0.1)
    async with asyncio.timeout(PATIENCE_SECONDS), ground.link.connect(ground.will):
        ground.proxy.hush()
    await ground.until_heard(Status, ground.will.payload)  # the hub has heard of no farewell


@pytest.mark.parametrize(
    ("root", "path", "reaches"), [("{root}", "", True), ("other", "", False), ("{root}", "/nowhere", False)]
)
async def test_the_hub_is_reached_if_it_is_ours(ground: HttpGround, root: str, path: str, *, reaches: bool) -> None:
    link = patient(ground)
    link = replace(link, url=link.url + path, root=root.format(root=ground.topics.root))
    assert await link.reaches_hub() is reaches


async def test_no_hub_is_reached_where_none_is(ground: HttpGround) -> None:
    ground.proxy.cut()
    assert not await patient(ground).reaches_hub()


@pytest.mark.parametrize(("poll", "silent", "pause"), [(0.5, 10, 0.5), (5, 15, 5), (60, 180, 60), (86400, 3600, 1200)])
def test_the_hub_waits_for_a_few_polls(poll: float, silent: float, pause: float) -> None:
    fields: dict[str, Any] = {"url": "http://hub", "site": "s", "worker": "w", "root": "edge"}
    link = HttpLink(**fields, poll_interval_seconds=poll)
    assert (link.silence_seconds, link.pause_seconds) == (silent, pause)
