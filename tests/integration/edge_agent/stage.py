"""What the agent's tests play with: a listener at the broker that can play the hub, and agents that run in the test."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from broker.clock import new_id
from broker.link import Link
from broker.messages import (
    Batch,
    Birth,
    HeartbeatMessage,
    HubStatusMessage,
    Receipt,
    Sync,
    TaskAccepted,
    TaskDeclined,
    TaskFinished,
    TaskRejected,
    encode,
)
from broker.topics import (
    Address,
    Control,
    Events,
    Heartbeat,
    HubStatus,
    Reply,
    SiteTasks,
    Status,
    Topics,
    WorkerTasks,
)
from edge_agent.app import App
from edge_agent.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from broker.link import Connection, Incoming
    from broker.messages import AnyEvent
    from edge_agent import Agent

PATIENCE_SECONDS = 40.0

Found = TypeVar("Found")


@dataclass
class Seen:
    """A message that the listener saw."""

    address: Address
    payload: bytes
    correlation: bytes | None


@dataclass
class Listener:
    """Sees all that is published about one site, and publishes what a hub or anybody else would."""

    connection: Connection
    site: str
    session: str = field(default_factory=new_id)
    receipts: bool = True
    seen: list[Seen] = field(default_factory=list)
    topics: Topics = field(default_factory=Topics)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _replies: asyncio.Queue[tuple[Control, Receipt]] = field(default_factory=asyncio.Queue)

    async def listen(self) -> None:
        async for incoming in self.connection.messages():
            await self._on_message(incoming)

    async def _on_message(self, incoming: Incoming) -> None:
        incoming.ack()
        address = self.topics.parse(incoming.topic)
        if getattr(address, "site", self.site) == self.site:
            async with self._changed:
                self.seen.append(Seen(address, incoming.payload, incoming.correlation))
                self._changed.notify_all()
            batch = _read(incoming.payload) if isinstance(address, Events) else None
            if self.receipts and batch and isinstance(address, Events):
                receipt = Receipt(stream=batch.stream, through=batch.last)
                self._replies.put_nowait((Control(address.site, address.worker), receipt))

    async def answer(self) -> None:
        """Give a receipt for each batch, as long as `receipts` says so."""
        while True:
            await self.publish(*await self._replies.get())

    async def until(self, look: Callable[[], Found]) -> Found:
        """Wait until `look` returns something true, looking whenever a message comes."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            while not (found := look()):
                await self._changed.wait()
            return found

    async def publish(
        self, address: Address, message: BaseModel | bytes | str | dict[str, Any] | list[Any], *, retain: bool = False
    ) -> None:
        if isinstance(message, dict | list):
            message = json.dumps(message)
        if isinstance(message, str):
            message = message.encode()
        payload = message if isinstance(message, bytes) else encode(message)
        await self.connection.publish(self.topics.build(address), payload, retain=retain)

    async def inject(self, message: bytes | str | dict[str, Any] | list[Any]) -> None:
        await self.publish(SiteTasks(self.site), message)

    async def inject_to(self, worker: str, message: BaseModel | dict[str, Any] | list[Any]) -> None:
        await self.publish(WorkerTasks(self.site, worker), message)

    # -- playing the hub ---------------------------------------------------------------------------------------------

    async def come_online(self) -> None:
        await self.publish(HubStatus(), HubStatusMessage(state="online", session=self.session))

    async def go_offline(self) -> None:
        await self.publish(HubStatus(), HubStatusMessage(state="offline", session=self.session))
        self.session = new_id()

    async def sync(self, worker: str, **more: Any) -> Birth:  # noqa: ANN401  any field
        """Answer the last hello of a worker."""
        birth = (await self.until(lambda: self.births(worker)))[-1]
        through = more.pop("committed_through", birth.journal.oldest - 1)
        answer = Sync(session=birth.session, stream=birth.journal.stream, committed_through=through, **more)
        await self.publish(Control(self.site, worker), answer)
        return birth

    async def receipt(self, worker: str, through: int) -> None:
        stream = self.births(worker)[-1].journal.stream
        await self.publish(Control(self.site, worker), Receipt(stream=stream, through=through))

    # -- what was seen -----------------------------------------------------------------------------------------------

    def payloads(self, kind: type[Address], worker: str | None = None) -> list[bytes]:
        return [
            one.payload
            for one in self.seen
            if isinstance(one.address, kind) and worker in (None, getattr(one.address, "worker", None))
        ]

    def statuses(self, worker: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.payloads(Status, worker) if payload]

    def births(self, worker: str) -> list[Birth]:
        return [
            Birth.model_validate_json(json.dumps(status))
            for status in self.statuses(worker)
            if status["state"] == "online"
        ]

    def heartbeats(self, worker: str) -> list[HeartbeatMessage]:
        return [HeartbeatMessage.model_validate_json(one) for one in self.payloads(Heartbeat, worker)]

    def batches(self, worker: str | None = None) -> list[Batch]:
        return [batch for payload in self.payloads(Events, worker) if (batch := _read(payload))]

    def events(self, worker: str | None = None) -> list[AnyEvent]:
        return [event for batch in self.batches(worker) for event in batch.events]

    def finished(self, worker: str | None = None) -> dict[str, TaskFinished]:
        return {one.task: one for one in self.events(worker) if isinstance(one, TaskFinished)}

    def accepted(self) -> dict[str, TaskAccepted]:
        return {one.task: one for one in self.events() if isinstance(one, TaskAccepted)}

    def declined(self) -> dict[str, TaskDeclined]:
        return {one.task: one for one in self.events() if isinstance(one, TaskDeclined)}

    def rejected(self) -> list[TaskRejected]:
        return [one for one in self.events() if isinstance(one, TaskRejected)]

    def replies(self, path: str) -> list[tuple[dict[str, Any], bytes | None]]:
        return [(json.loads(one.payload), one.correlation) for one in self.seen if one.address == Reply(path)]

    async def ended(self, task: str) -> TaskFinished:
        """Wait until a worker has told how `task` ended."""
        found = await self.until(lambda: self.finished().get(task))
        assert found
        return found


def _read(payload: bytes) -> Batch | None:
    """Return a batch; None is one that cannot be read, and has no receipt."""
    try:
        return Batch.model_validate_json(payload)
    except ValidationError:
        return None


@asynccontextmanager
async def listening(url: str, site: str) -> AsyncIterator[Listener]:
    link = Link(url=url, client_id=f"listener-{site}")
    async with link.connect() as connection:
        listener = Listener(connection, site)
        await connection.subscribe(listener.topics.all_of_sites(), f"{listener.topics.build(Reply('x'))[:-1]}#")
        tasks = [asyncio.create_task(listener.listen()), asyncio.create_task(listener.answer())]
        try:
            yield listener
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Stage:
    """Where a test plays."""

    broker_url: str
    site: str
    directory: Path
    hub: Listener

    def settings(self, worker: str = "w", **more: Any) -> WorkerSettings:  # noqa: ANN401  any field
        values: dict[str, Any] = {
            "id": f"{self.site}-{worker}",
            "site": self.site,
            "broker_url": self.broker_url,
            "offline_dir": self.directory / worker,
            "stop_seconds": 0.5,
            **more,
        }
        return WorkerSettings(**values)

    @asynccontextmanager
    async def agent(
        self,
        worker: str = "w",
        *,
        agents: Sequence[Agent] = (),
        wait: bool = True,
        **more: Any,  # noqa: ANN401  any setting
    ) -> AsyncIterator[App]:
        """Run an agent in this test, and stop it in order at the end."""
        app = App(self.settings(worker, **more), agents)
        app.open()
        task = asyncio.create_task(app.run())
        try:
            if wait:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await app.online.wait()
            yield app
        finally:
            app.stop()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await task

    @asynccontextmanager
    async def synced(self, worker: str = "w", **more: Any) -> AsyncIterator[App]:  # noqa: ANN401  any field
        """Run an agent that has synced with the hub, which the listener plays."""
        async with self.agent(worker, **more) as app:
            await self.hub.come_online()
            await self.hub.sync(app.name.worker)
            yield app
