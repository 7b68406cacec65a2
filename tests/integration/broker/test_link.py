"""One connection to a real mosquitto: acknowledged by hand, and made again for ever."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from broker.errors import LinkDown
from broker.link import Connection, Link, Will
from broker.local import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[PrivateBroker]:
    with PrivateBroker(persistent=True) as started:
        yield started


async def test_a_message_that_was_not_acknowledged_comes_again(broker: PrivateBroker) -> None:
    link = Link(url=broker.url, client_id="keeps", session_expiry_seconds=60)
    async with link.connect() as first:
        await first.subscribe("a")
        await first.publish("a", b"1")
        await anext(first.messages())

    async with asyncio.timeout(5), link.connect() as second:
        again = await anext(second.messages())
        assert again.payload == b"1"
        again.ack()
        await second.subscribe("b")
        await second.publish("b", b"2")
        assert (await anext(second.messages())).payload == b"2"


async def test_a_will_is_published_for_a_connection_that_dies_and_not_for_one_that_ends(broker: PrivateBroker) -> None:
    async with Link(url=broker.url, client_id="watcher").connect() as watcher:
        await watcher.subscribe("will/#")
        link = Link(url=broker.url, client_id="mortal")
        async with link.connect(Will(topic="will/ends", payload=b"no")):
            pass
        taker = Link(url=broker.url, client_id="mortal")
        async with asyncio.timeout(5), link.connect(Will(topic="will/dies", payload=b"yes")), taker.connect():
            died = await anext(watcher.messages())
    assert (died.topic, died.payload) == ("will/dies", b"yes")


async def test_a_link_connects_again_and_tells_how_it_went_down(broker: PrivateBroker) -> None:
    downs: list[LinkDown] = []
    connections = 0

    async def serve(connection: Connection) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            broker.kill()
            async for _ in connection.messages():
                pass

    def on_down(down: LinkDown, _: float) -> None:
        downs.append(down)
        if len(downs) == 1:
            broker.start()

    async with asyncio.timeout(10):
        await Link(url=broker.url, client_id="again").run(serve, on_down=on_down)
    assert connections == 2
    assert all(down.url == broker.url and down.reason for down in downs)


async def test_a_link_that_is_cancelled_while_it_fails_stays_cancelled(broker: PrivateBroker) -> None:
    connected, break_down = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        await break_down.wait()
        raise LinkDown(broker.url, "at the same time")

    async def serve(_: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            connected.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(Link(url=broker.url, client_id="cancelled").run(serve))
    async with asyncio.timeout(5):
        await connected.wait()
        break_down.set()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_broker_that_is_not_there_is_told_with_its_address() -> None:
    with pytest.raises(LinkDown, match=r"no link to mqtt://127\.0\.0\.1:1: .*refused"):
        async with Link(url="mqtt://127.0.0.1:1", client_id="nobody").connect():
            pass


async def test_an_exchange_does_not_wait_for_nagle(broker: PrivateBroker) -> None:
    async with Link(url=broker.url, client_id="quick").connect() as connection:
        await connection.subscribe("quick")
        began = asyncio.get_running_loop().time()
        for _ in range(25):
            await connection.publish("quick", b"x")
            (await anext(connection.messages())).ack()
        elapsed = asyncio.get_running_loop().time() - began
    assert elapsed < 0.5, "25 exchanges at 40 ms each would take a second"


async def test_a_socket_that_is_closed_before_it_is_watched_is_not(broker: PrivateBroker) -> None:
    """Watched by its number it would be an error of the event loop, or somebody else's socket."""
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with Link(url=broker.url, client_id="closed").connect() as connection:
        paho = connection._client._client  # noqa: SLF001
        paho._call_socket_register_write()  # noqa: SLF001
        paho._call_socket_open(paho._sock)  # type: ignore[arg-type]  # noqa: SLF001  as when it connects, in a thread
        paho._sock_close()  # noqa: SLF001
        await asyncio.sleep(0)
        with pytest.raises(LinkDown):
            await connection.publish("a", b"1")
    assert errors == []


async def test_a_cancellation_in_the_moment_of_connecting_is_not_forgotten(
    broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = aiomqtt.Client.__aenter__

    async def forgetful(client: aiomqtt.Client) -> aiomqtt.Client:
        """Connect, and forget a cancellation that comes then, as `asyncio.wait_for` does before Python 3.12."""
        await connect(client)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return client

    async def serve(_: Connection) -> None:
        served.append(True)

    served: list[bool] = []
    monkeypatch.setattr(aiomqtt.Client, "__aenter__", forgetful)
    link = Link(url=broker.url, client_id="forgetful")
    connecting = asyncio.create_task(link._once(serve, None))  # noqa: SLF001  in `run` it is a task of its own as well
    async with asyncio.timeout(5):
        await asyncio.wait([connecting])
    assert connecting.cancelled()
    assert served == []
