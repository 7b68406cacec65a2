"""Where a link is tried: the same ground by MQTT, on a real broker, and by HTTP, at a real hub, each behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from broker.clock import new_id, now_ms
from broker.link import Link, Will
from broker.local import HOST
from broker.messages import Birth, JournalPosition, TaskRef, encode
from broker.topics import Control, Heartbeat, HubStatus, Status, Topics, WorkerTasks
from edge_agent.http_link import HttpLink
from tests.support.hubs import RunningHub, running_hub, settings_for
from tests.support.proxy import Proxy
from tests.support.waiting import PATIENCE_SECONDS, Changes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from broker.link import Incoming
    from broker.topics import Address
    from edge_agent.connection import Connection

SITE, WORKER = "site-a", "w1"
POLL_SECONDS = 0.05
SILENT_AFTER_SECONDS = 0.5


class AnyLink(Protocol):
    """A link that can also be held once."""

    @property
    def url(self) -> str: ...

    async def run(
        self,
        serve: Callable[[Connection], Awaitable[None]],
        *,
        will: Callable[[], Will] | None = None,
        on_down: Callable[..., None] | None = None,
    ) -> None: ...

    def connect(self, will: Will | None = None) -> AbstractAsyncContextManager[Connection]: ...


@dataclass
class Ground:
    """One way to the other end, where all that a worker publishes is heard."""

    transport: Literal["mqtt", "http"]
    topics: Topics
    proxy: Proxy
    link: AnyLink
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)

    def topic(self, kind: type[Status | Heartbeat | Control | WorkerTasks]) -> str:
        return self.topics.build(kind(SITE, WORKER))

    @property
    def will(self) -> Will:
        return Will(topic=self.topic(Status), payload=b'{"state": "offline", "session": "s"}')

    def hear(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))
        self.changes.wake()

    def heard_on(self, kind: type[Status | Heartbeat]) -> list[bytes]:
        return [payload for topic, payload in self.heard if topic == self.topic(kind)]

    async def until_heard(self, kind: type[Status | Heartbeat], *payloads: bytes) -> None:
        """Wait until `payloads` are all that was heard of a kind."""

        async def look() -> bool | None:
            return self.heard_on(kind) == [*payloads] or None

        try:
            await self.changes.until(look)
        except TimeoutError:
            assert self.heard_on(kind) == [*payloads]

    async def say(self, connection: Connection, *words: bytes) -> None:
        for word in words:
            await connection.publish(self.topic(Heartbeat), word)

    async def greet(self, connection: Connection, *held: str) -> None:
        """Do first what a session does first."""
        await connection.subscribe(self.topic(Control), self.topic(WorkerTasks))
        birth = Birth(
            session=new_id(),
            boot="b1",
            at=now_ms(),
            version="0",
            slots=9,
            kinds=("noop",),
            heartbeat_interval_seconds=30,
            session_expiry_seconds=60,
            journal=JournalPosition(stream="s1", oldest=1, newest=0),
            held=tuple(TaskRef(task=task, attempt=1) for task in held),
            transport=connection.transport,
        )
        await connection.publish(self.topic(Status), encode(birth), retain=True)

    async def assign(self, task: str) -> None:
        """Have the other end give the worker a task."""
        raise NotImplementedError

    async def nothing_is_left(self) -> None:
        """Return when the other end has heard all that it will ever hear of links that have ended."""
        raise NotImplementedError


async def task_in(connection: Connection) -> tuple[str, Incoming]:
    """Wait for the next message that gives tasks: an assignment, or a sync that sends what should be held."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for incoming in connection.messages():
            message = json.loads(incoming.payload)
            tasks = message.get("send", ()) if isinstance(message, dict) else message
            if tasks:
                return tasks[0]["id"], incoming
            incoming.ack()
    raise AssertionError("messages() ended by itself")


class MqttGround(Ground):
    """Where another client of the broker listens, and gives tasks."""

    watcher: Connection

    async def assign(self, task: str) -> None:
        tasks = json.dumps([{"id": task, "kind": "noop", "attempt": 1}]).encode()
        await self.watcher.publish(self.topic(WorkerTasks), tasks)

    async def nothing_is_left(self) -> None:
        await self.watcher.publish(self.topics.build(HubStatus()), b"marker")
        marker = (self.topics.build(HubStatus()), b"marker")

        async def look() -> bool | None:
            return marker in self.heard or None

        await self.changes.until(look)

    async def listen(self) -> None:
        async for incoming in self.watcher.messages():
            incoming.ack()
            self.hear(incoming.topic, incoming.payload)


class HttpGround(Ground):
    """Where a hub listens: what its gateway hands on is heard here first."""

    hub: RunningHub
    posts: int = 0

    async def assign(self, task: str) -> None:
        await self.hub.post({"id": task, "kind": "noop"})

        async def look() -> dict[str, object] | None:
            shown = await self.hub.get(f"/api/tasks/{task}")
            return shown if shown["state"] == "assigned" else None

        await self.hub.until(look)

    async def nothing_is_left(self) -> None:
        assert self.hub.hub._gateway._links == {}  # noqa: SLF001

    def waiting_letters(self) -> list[int]:
        """Return the numbers of what waits in the worker's mailbox."""
        box = self.hub.hub._gateway._mailboxes._boxes[WORKER]  # noqa: SLF001
        return [letter.number for letter in box.waiting()]

    def tap(self) -> None:
        gateway = self.hub.hub._gateway  # noqa: SLF001
        handlers, exchange = gateway._handlers, gateway.exchange  # noqa: SLF001

        def heard_by(handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
            async def handle(address: Address, incoming: Incoming) -> None:
                self.hear(incoming.topic, incoming.payload)
                await handler(address, incoming)

            return handle

        async def counted(*arguments: object) -> object:
            self.posts += 1
            self.changes.wake()
            return await exchange(*arguments)  # type: ignore[arg-type]

        gateway._handlers = replace(  # noqa: SLF001
            handlers, status=heard_by(handlers.status), heartbeat=heard_by(handlers.heartbeat)
        )
        gateway.exchange = counted  # type: ignore[method-assign, assignment]


@contextlib.asynccontextmanager
async def mqtt_ground(broker_url: str) -> AsyncIterator[MqttGround]:
    topics = Topics(f"t{new_id()[:12]}")
    port = urlsplit(broker_url).port
    assert port
    async with Proxy(port) as proxy, Link(url=broker_url, client_id=f"watcher-{topics.root}").connect() as watcher:
        link = Link(url=proxy.url, client_id=f"{WORKER}-{topics.root}", session_expiry_seconds=60)
        ground = MqttGround("mqtt", topics, proxy, link)
        ground.watcher = watcher
        await watcher.subscribe(topics.all_of_sites(), topics.build(HubStatus()))
        listening = asyncio.create_task(ground.listen())
        try:
            yield ground
        finally:
            listening.cancel()
            await asyncio.wait([listening])


@contextlib.asynccontextmanager
async def http_ground(broker_url: str, directory: Path) -> AsyncIterator[HttpGround]:
    topics = Topics(f"t{new_id()[:12]}")
    async with running_hub(settings_for(broker_url, directory, topics.root)) as hub:
        port = urlsplit(str(hub.http.base_url)).port
        assert port
        async with Proxy(port) as proxy:
            ground = HttpGround("http", topics, proxy, http_link(http_url(proxy), topics.root))
            ground.hub = hub
            ground.tap()
            yield ground


def http_url(proxy: Proxy) -> str:
    return f"http://{HOST}:{urlsplit(proxy.url).port}"


def http_link(url: str, root: str, poll_seconds: float = POLL_SECONDS) -> HttpLink:
    return HttpLink(
        url=url,
        site=SITE,
        worker=WORKER,
        root=root,
        poll_interval_seconds=poll_seconds,
        silent_after_seconds=SILENT_AFTER_SECONDS,
    )
