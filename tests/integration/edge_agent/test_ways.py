"""From MQTT to HTTP and back, on a real broker and at a real hub, each behind a proxy of its own."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from broker import link as broker_link
from broker.clock import new_id, now_ms
from broker.errors import LinkDown
from broker.link import Link, Will
from broker.messages import Birth, Farewell, JournalPosition, encode
from broker.topics import Heartbeat, Status
from edge_agent.rules.transport import Limits
from edge_agent.ways import Ways
from tests.integration.edge_agent.grounds import WORKER, http_ground
from tests.support.proxy import Proxy
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker.local import PrivateBroker
    from edge_agent.connection import Connection
    from edge_agent.http_link import HttpLink
    from tests.integration.edge_agent.grounds import HttpGround

PROMPT_SECONDS = 5.0
QUICK = Limits(patience_seconds=0.3, ask_seconds=0.05, try_seconds=0.2)


@dataclass
class Crossing:
    """A worker that says birth and farewell as the agent does, and where it can go."""

    ground: HttpGround
    mqtt: Proxy
    link: HttpLink
    limits: Limits = QUICK
    session: str = ""
    served: list[str] = field(default_factory=list)
    downs: list[LinkDown] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def http(self) -> Proxy:
        return self.ground.proxy

    def ways(self) -> Ways:
        topics = self.ground.topics
        mqtt = Link(url=self.mqtt.url, client_id=f"{WORKER}-{topics.root}", session_expiry_seconds=60)
        return Ways(mqtt, self.link, self.limits)

    async def run(self, ways: Ways) -> None:
        await ways.run(self._serve, will=self._will, on_down=lambda down, _: self.downs.append(down))

    def _will(self) -> Will:
        self.session = new_id()
        return Will(topic=self.ground.topic(Status), payload=self._farewell())

    def _farewell(self) -> bytes:
        return encode(Farewell(state="offline", session=self.session))

    async def _serve(self, connection: Connection) -> None:
        status = self.ground.topic(Status)
        birth = Birth(
            session=self.session,
            boot="b1",
            at=now_ms(),
            version="0",
            slots=1,
            kinds=("noop",),
            heartbeat_interval_seconds=30,
            session_expiry_seconds=60,
            journal=JournalPosition(stream="s1", oldest=1, newest=0),
            transport=connection.transport,
        )
        try:
            await connection.publish(status, encode(birth), retain=True)
            self.served.append(connection.transport)
            self.changed.set()
            async for incoming in connection.messages():
                incoming.ack()
        finally:
            with contextlib.suppress(LinkDown):
                await connection.publish(status, self._farewell(), retain=True)

    async def until_served(self, *transports: str) -> None:
        """Wait until `transports` are all the connections that there were."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.served != [*transports]:
                assert self.served == [*transports][: len(self.served)]
                self.changed.clear()
                await self.changed.wait()

    async def shown(self, **wanted: object) -> dict[str, Any]:
        """Wait until the hub shows the worker so."""
        return await self.ground.hub.worker(WORKER, **wanted)


@pytest.fixture
async def crossing(broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crossing]:
    monkeypatch.setattr(broker_link, "OPERATION_TIMEOUT_SECONDS", 1.0)  # a blocked connection is known sooner
    port = urlsplit(broker.url).port
    assert port
    async with http_ground(broker.url, tmp_path) as ground, Proxy(port) as mqtt:
        link = ground.link
        yield Crossing(ground, mqtt, link)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(crossing: Crossing) -> AsyncIterator[Ways]:
    """Run, and at the end be cancelled: that must be prompt, and leave nothing behind."""
    ways = crossing.ways()
    task = asyncio.create_task(crossing.run(ways))
    try:
        yield ways
    finally:
        task.cancel()
        async with asyncio.timeout(PROMPT_SECONDS):
            await asyncio.wait([task])
        assert task.cancelled()
        names = {one.get_name() for one in asyncio.all_tasks()}
        assert not names & {"by-mqtt", "by-http", "ways", "http-link"}


async def test_where_mqtt_can_be_had_it_goes_by_mqtt(crossing: Crossing) -> None:
    async with running(crossing) as ways:
        await crossing.until_served("mqtt")
        await crossing.shown(state="online")
        assert ways.url == crossing.mqtt.url
    await crossing.shown(state="offline")
    assert crossing.ground.posts == 0


@pytest.mark.parametrize("how", ["cut", "hush"])
async def test_where_mqtt_is_blocked_it_goes_by_http_and_back_when_it_can(crossing: Crossing, how: str) -> None:
    getattr(crossing.mqtt, how)()
    async with running(crossing) as ways:
        await crossing.until_served("http")
        await crossing.shown(state="online")
        assert ways.url == crossing.link.url
        crossing.mqtt.heal()
        await crossing.until_served("http", "mqtt")
        await crossing.shown(state="online")
        assert crossing.ground.hub.hub._gateway._links == {}  # noqa: SLF001  it was left in order
        assert not crossing.ground.hub.hub._wire._by_http  # noqa: SLF001


async def test_a_connection_that_is_lost_is_tried_again_before_the_way_changes(crossing: Crossing) -> None:
    crossing.limits = replace(QUICK, patience_seconds=60)
    async with running(crossing):
        await crossing.until_served("mqtt")
        crossing.mqtt.drop()
        await crossing.until_served("mqtt", "mqtt")
    assert crossing.downs


async def test_mqtt_that_is_lost_in_the_middle_is_left(crossing: Crossing) -> None:
    async with running(crossing):
        await crossing.until_served("mqtt")
        crossing.mqtt.cut()
        await crossing.until_served("mqtt", "http")
        await crossing.shown(state="online")


async def test_where_no_hub_answers_it_goes_on_by_mqtt(crossing: Crossing) -> None:
    crossing.mqtt.cut()
    crossing.http.cut()
    async with running(crossing) as ways:
        while len(crossing.downs) < 3:  # noqa: ASYNC110  it is told by callback
            await asyncio.sleep(0.01)
        assert ways.url == crossing.mqtt.url
        crossing.mqtt.heal()
        await crossing.until_served("mqtt")


async def test_another_hub_is_no_way(crossing: Crossing) -> None:
    crossing.link = replace(crossing.link, root="another")
    crossing.mqtt.cut()
    async with running(crossing) as ways:
        while len(crossing.downs) < 3:  # noqa: ASYNC110  it is told by callback
            await asyncio.sleep(0.01)
        assert ways.url == crossing.mqtt.url
    assert crossing.ground.posts == 0


async def test_http_that_is_lost_too_is_given_up_and_the_first_that_is_back_is_taken(crossing: Crossing) -> None:
    crossing.mqtt.cut()
    async with running(crossing) as ways:
        await crossing.until_served("http")
        crossing.http.cut()
        while ways.url != crossing.mqtt.url:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)
        crossing.http.heal()
        await crossing.until_served("http", "http")


async def test_a_try_that_fails_leaves_the_link_as_it_is(crossing: Crossing) -> None:
    crossing.mqtt.cut()
    async with running(crossing) as ways:
        await crossing.until_served("http")
        due = {ways._way.try_at}  # noqa: SLF001
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(due) < 3:
                await asyncio.sleep(0.01)
                due.add(ways._way.try_at)  # noqa: SLF001
        await crossing.ground.hub.until(lambda: online(crossing))
    assert crossing.served == ["http"]


async def online(crossing: Crossing) -> dict[str, Any] | None:
    shown = await crossing.ground.hub.get(f"/api/workers/{WORKER}")
    return shown if shown["state"] == "online" else None


async def test_it_ends_with_serve(crossing: Crossing) -> None:
    async def serve(connection: Connection) -> None:
        await connection.publish(crossing.ground.topic(Heartbeat), b"1")

    async with asyncio.timeout(PROMPT_SECONDS):
        await crossing.ways().run(serve)


async def test_an_error_in_serve_ends_it(crossing: Crossing) -> None:
    async def serve(_: Connection) -> None:
        raise ZeroDivisionError

    crossing.mqtt.cut()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(ZeroDivisionError):
            await crossing.ways().run(serve)


@pytest.mark.parametrize("moment", ["at the first connection", "while the hub is asked", "while mqtt is tried"])
async def test_a_cancellation_at_any_moment_is_prompt(crossing: Crossing, moment: str) -> None:
    async with running(crossing):  # which looks at that
        if moment == "while the hub is asked":
            crossing.mqtt.cut()
            crossing.http.hush()
            while not crossing.http._writers:  # noqa: ASYNC110, SLF001
                await asyncio.sleep(0.01)
        elif moment == "while mqtt is tried":
            crossing.mqtt.cut()
            await crossing.until_served("http")
            crossing.mqtt.hush()
            while not crossing.mqtt._writers:  # noqa: ASYNC110, SLF001
                await asyncio.sleep(0.01)
