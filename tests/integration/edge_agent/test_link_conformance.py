"""What every link does, by MQTT on a real broker and by HTTP at a real hub: nothing above it knows the difference."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from broker import link
from broker.errors import LinkDown
from broker.topics import Heartbeat, Status
from tests.integration.edge_agent.grounds import http_ground, mqtt_ground, task_in
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from broker.link import Will
    from broker.local import PrivateBroker
    from edge_agent.connection import Connection
    from tests.integration.edge_agent.grounds import Ground

PROMPT_SECONDS = 5.0
"""Far less than any time limit of a request, and far more than a cancellation takes."""


@pytest.fixture(params=["mqtt", "http"])
async def ground(
    request: pytest.FixtureRequest, broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    # aiomqtt 2.5 waits that long for an acknowledgement on a connection that it knows to be gone.
    monkeypatch.setattr(link, "OPERATION_TIMEOUT_SECONDS", 2.0)
    async with AsyncExitStack() as stack:
        if request.param == "mqtt":
            yield await stack.enter_async_context(mqtt_ground(broker.url))
        else:
            yield await stack.enter_async_context(http_ground(broker.url, tmp_path))


class Running:
    """A link that runs, and what happened to it."""

    def __init__(self, ground: Ground, serve: Callable[[Connection], Awaitable[None]] | None = None) -> None:
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()
        self.downs: list[LinkDown] = []
        self._serve = serve
        self.task = asyncio.create_task(
            ground.link.run(self._serving, will=lambda: ground.will, on_down=lambda down, _: self.downs.append(down))
        )

    async def _serving(self, connection: Connection) -> None:
        self.connections.put_nowait(connection)
        if self._serve:
            await self._serve(connection)
        else:
            async for _ in connection.messages():
                pass

    async def connected(self) -> Connection:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.connections.get()

    async def down(self) -> None:
        """Wait until it has told of a loss."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.downs:  # noqa: ASYNC110  it is told by callback
                await asyncio.sleep(0.01)

    async def cancelled(self) -> None:
        """Cancel it: it must end promptly, and as one that was cancelled."""
        self.task.cancel()
        async with asyncio.timeout(PROMPT_SECONDS):
            await asyncio.wait([self.task])
        assert self.task.cancelled()


async def test_a_connection_says_which_way_and_where_it_goes(ground: Ground) -> None:
    async with ground.link.connect() as connection:
        assert (connection.transport, connection.url) == (ground.transport, ground.link.url)


async def test_what_is_published_arrives_once_and_in_its_order(ground: Ground) -> None:
    words = [str(number).encode() for number in range(100)]
    async with ground.link.connect() as connection:
        await asyncio.gather(*(connection.publish(ground.topic(Heartbeat), word) for word in words))
        await ground.say(connection, b"last")
    await ground.until_heard(Heartbeat, *words, b"last")


async def test_what_is_delivered_comes_once_and_in_its_order_while_the_connection_lives(ground: Ground) -> None:
    tasks = [f"t{number}" for number in range(5)]
    async with ground.link.connect() as connection:
        await ground.greet(connection)
        for task in tasks:
            await ground.assign(task)
        assert [(await task_in(connection))[0] for _ in tasks] == tasks
        await ground.say(connection, b"1", b"2", b"3")  # nothing of it is acknowledged: by HTTP it comes each time
        assert connection.waiting() == 0


async def test_what_was_not_acknowledged_comes_again(ground: Ground) -> None:
    async with ground.link.connect() as connection:
        await ground.greet(connection)
        await ground.assign("t1")
        assert (await task_in(connection))[0] == "t1"
    async with ground.link.connect() as connection:
        await ground.greet(connection)
        task, incoming = await task_in(connection)
        assert task == "t1"
        incoming.ack()


async def test_what_was_acknowledged_does_not_come_again(ground: Ground) -> None:
    async with ground.link.connect() as connection:
        await ground.greet(connection)
        await ground.assign("t1")
        (await task_in(connection))[1].ack()
        await ground.say(connection, b"1")
    async with ground.link.connect() as connection:
        await ground.greet(connection, "t1")
        await ground.assign("t2")
        assert (await task_in(connection))[0] == "t2"


async def test_an_acknowledgement_after_the_end_harms_nothing(ground: Ground) -> None:
    async with ground.link.connect() as connection:
        await ground.greet(connection)
        await ground.assign("t1")
        _, incoming = await task_in(connection)
    incoming.ack()


# -- the end of a connection -------------------------------------------------------------------------------------------


async def test_who_dies_leaves_a_will(ground: Ground) -> None:
    running = Running(ground)
    await running.connected()
    ground.proxy.cut()
    await ground.until_heard(Status, ground.will.payload)
    await running.cancelled()


async def test_who_leaves_in_order_leaves_no_will(ground: Ground) -> None:
    async with ground.link.connect(ground.will) as connection:
        await ground.say(connection, b"here")
    await ground.nothing_is_left()
    assert ground.heard_on(Status) == []


async def test_a_loss_is_told_to_who_listens_and_to_who_publishes(ground: Ground) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), ground.link.connect() as connection:
        ground.proxy.cut()
        with pytest.raises(LinkDown):
            async for _ in connection.messages():
                pass
        for call in (connection.publish(ground.topic(Heartbeat), b"1"), connection.subscribe(ground.topic(Heartbeat))):
            with pytest.raises(LinkDown):
                await call


async def test_who_waits_for_an_acknowledgement_is_told_of_the_loss(ground: Ground) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), ground.link.connect() as connection:
        ground.proxy.hush()
        publishing = asyncio.ensure_future(connection.publish(ground.topic(Heartbeat), b"1"))
        await asyncio.sleep(0)
        ground.proxy.cut()
        with pytest.raises(LinkDown):
            await publishing


async def test_where_nobody_answers_there_is_no_connection(ground: Ground) -> None:
    ground.proxy.cut()
    with pytest.raises(LinkDown) as raised:
        async with ground.link.connect():
            pass
    assert raised.value.url == ground.link.url


# -- run ---------------------------------------------------------------------------------------------------------------


async def test_it_connects_again_and_tells_how_it_went_down(ground: Ground) -> None:
    running = Running(ground)
    await running.connected()
    ground.proxy.cut()
    await running.down()
    ground.proxy.heal()
    connection = await running.connected()
    await ground.say(connection, b"again")
    assert running.downs
    assert all(down.url == ground.link.url and down.reason for down in running.downs)
    await running.cancelled()


async def test_it_tries_for_ever_where_nobody_answers(ground: Ground) -> None:
    ground.proxy.cut()
    running = Running(ground)
    while len(running.downs) < 2:  # noqa: ASYNC110  it is told by callback
        await asyncio.sleep(0.01)
    ground.proxy.heal()
    await running.connected()
    await running.cancelled()


async def test_each_connection_has_a_will_of_its_own(ground: Ground) -> None:
    wills = 0

    def will() -> Will:
        nonlocal wills
        wills += 1
        return ground.will

    async def serve(_: Connection) -> None:
        if wills == 1:
            raise LinkDown(ground.link.url, "for this test")

    async with asyncio.timeout(PATIENCE_SECONDS):
        await ground.link.run(serve, will=will)
    assert wills == 2


async def test_it_ends_with_serve(ground: Ground) -> None:
    async def serve(connection: Connection) -> None:
        await ground.say(connection, b"all")

    async with asyncio.timeout(PROMPT_SECONDS):
        await ground.link.run(serve)
    await ground.until_heard(Heartbeat, b"all")


async def test_an_error_in_serve_is_no_loss_and_ends_it(ground: Ground) -> None:
    async def serve(_: Connection) -> None:
        raise ZeroDivisionError

    async with asyncio.timeout(PROMPT_SECONDS):
        with pytest.raises(ZeroDivisionError):
            await ground.link.run(serve)


async def test_who_is_cancelled_can_say_farewell_and_leaves_no_will(ground: Ground) -> None:
    async def serve(connection: Connection) -> None:
        try:
            async for _ in connection.messages():
                pass
        finally:
            await ground.say(connection, b"farewell")

    running = Running(ground, serve)
    await running.connected()
    await running.cancelled()
    await ground.until_heard(Heartbeat, b"farewell")
    await ground.nothing_is_left()
    assert ground.heard_on(Status) == []


async def test_a_cancellation_while_a_publish_waits_is_prompt(ground: Ground) -> None:
    waits = asyncio.Event()

    async def serve(connection: Connection) -> None:
        ground.proxy.hush()
        publishing = asyncio.ensure_future(connection.publish(ground.topic(Heartbeat), b"1"))
        await asyncio.sleep(0)
        waits.set()
        await publishing

    running = Running(ground, serve)
    await waits.wait()
    await running.cancelled()


async def test_a_cancellation_while_it_connects_is_prompt(ground: Ground) -> None:
    ground.proxy.hush()
    running = Running(ground)
    while not ground.proxy._writers:  # noqa: ASYNC110, SLF001
        await asyncio.sleep(0.01)
    await running.cancelled()
    assert running.downs == []


async def test_a_cancellation_while_it_waits_to_try_again_is_prompt(ground: Ground) -> None:
    ground.proxy.cut()
    running = Running(ground)
    await running.down()
    await running.cancelled()


async def test_a_cancellation_in_the_moment_of_a_loss_stays_one(ground: Ground) -> None:
    break_down = asyncio.Event()

    async def fail() -> None:
        await break_down.wait()
        raise LinkDown(ground.link.url, "at the same time")

    async def serve(_: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.Event().wait()

    running = Running(ground, serve)
    await running.connected()
    break_down.set()
    await running.cancelled()
