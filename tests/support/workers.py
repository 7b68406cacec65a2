"""A worker that does just what the test says, over a real link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json

from broker.account import Account
from broker.clock import new_id, now_ms
from broker.errors import LinkDown
from broker.link import Link, Will
from broker.messages import (
    CONTROL,
    AnyEvent,
    Assignment,
    Batch,
    Birth,
    Farewell,
    HeartbeatMessage,
    JournalDepth,
    JournalPosition,
    Outcome,
    Receipt,
    Renew,
    Scalar,
    Sync,
    TaskAccepted,
    TaskFinished,
    TaskRef,
    TaskRequest,
    TaskStarted,
    encode,
)
from broker.reading import Refused, read_worker_tasks
from broker.topics import Control, Events, Heartbeat, Status, Topics, WorkerTasks
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from broker.link import Connection, Incoming
    from broker.messages import AnyControl

Message = TypeVar("Message")


async def soon(awaitable: Any) -> Any:  # noqa: ANN401
    """Await something that must come."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await awaitable


def refs(assignments: Iterable[Assignment]) -> tuple[TaskRef, ...]:
    """Return which attempts these are."""
    return tuple(TaskRef(task=one.id, attempt=one.attempt) for one in assignments)


@dataclass
class ScriptedWorker:
    """A worker on a live connection. What it is sent waits in `tasks` and `control`."""

    id: str
    site: str
    topics: Topics
    connection: Connection
    session: str
    slots: int = 2
    kinds: tuple[str, ...] = ("noop", "sleep")
    capabilities: dict[str, Scalar] = field(default_factory=dict)
    heartbeat_interval_seconds: float = 30
    session_expiry_seconds: int = 0
    stream: str = field(default_factory=new_id)
    intake: str = field(default_factory=new_id)
    reported: int = 0
    tasks: asyncio.Queue[Assignment | TaskRequest] = field(default_factory=asyncio.Queue)
    control: asyncio.Queue[AnyControl] = field(default_factory=asyncio.Queue)

    # -- presence --------------------------------------------------------------------------------------------------

    def birth(self, **changed: object) -> Birth:
        """Return this session's birth."""
        fields: dict[str, object] = {
            "session": self.session,
            "boot": "b1",
            "at": now_ms(),
            "version": "0.1.0",
            "capabilities": self.capabilities,
            "slots": self.slots,
            "kinds": self.kinds,
            "heartbeat_interval_seconds": self.heartbeat_interval_seconds,
            "session_expiry_seconds": self.session_expiry_seconds,
            "journal": JournalPosition(stream=self.stream, oldest=self.reported + 1, newest=self.reported),
            "held": (),
            "intake": self.intake,
        }
        return Birth.model_validate_json(to_json({**fields, **changed}))

    async def hello(self, **changed: object) -> Sync:
        """Say hello and return the hub's answer."""
        await self.publish(Status(self.site, self.id), encode(self.birth(**changed)), retain=True)
        return await self.next_control(Sync)

    async def renew(self) -> None:
        """Do as the hub asks: open the intake anew, and say so."""
        await self.next_control(Renew)
        self.intake = new_id()
        await self.hello()

    async def beat(
        self,
        *running: Assignment,
        session: str | None = None,
        held: Iterable[Assignment] | None = None,
        newest: int | None = None,
        **more: object,
    ) -> None:
        """Publish a heartbeat; `held` is what it names, `newest` the last event that its journal had then."""
        last = self.reported if newest is None else newest
        heartbeat = HeartbeatMessage(
            session=session or self.session,
            at=now_ms(),
            running=refs(running),
            held=None if held is None else refs(held),
            position=JournalPosition(stream=self.stream, oldest=last + 1, newest=last),
            queued=0,
            journal=JournalDepth(rows=0, bytes=0),
            written_bytes_today=0,
            cpu_percent=0,
            memory_bytes=0,
            disk_free_bytes=0,
        )
        told = HeartbeatMessage.model_validate({**dict(heartbeat), **more})
        await self.publish(Heartbeat(self.site, self.id), encode(told), retain=True)

    async def farewell(self, *, stopped: bool, session: str | None = None) -> None:
        """Publish the end of a session, this one's or another's."""
        message = Farewell(state="stopped" if stopped else "offline", session=session or self.session)
        await self.publish(Status(self.site, self.id), encode(message), retain=True)

    def die(self) -> None:
        """Cut the connection, as a power cut would: the broker publishes the will."""
        raw = self.connection._client._client.socket()  # noqa: SLF001
        assert isinstance(raw, socket.socket)
        raw.shutdown(socket.SHUT_RDWR)

    # -- what it is sent -------------------------------------------------------------------------------------------

    async def next_assignment(self) -> Assignment:
        """Return the next task that the hub sent."""
        task = await soon(self.tasks.get())
        assert isinstance(task, Assignment)
        return task

    async def next_control(self, kind: type[Message]) -> Message:
        """Return the next control message of a kind, and pass over the others."""
        while True:
            message = await soon(self.control.get())
            if isinstance(message, kind):
                return message

    # -- what it reports -------------------------------------------------------------------------------------------

    async def send(self, first: int, *events: AnyEvent, stream: str | None = None, after: int | None = None) -> None:
        """Publish a batch of events `first`, `first + 1`, …, whatever was reported before."""
        batch = Batch(stream=stream or self.stream, first=first, events=events, after=after)
        await self.publish(Events(self.site, self.id), encode(batch))

    async def report(self, *events: AnyEvent) -> Receipt:
        """Report the journal's next events and return their receipt."""
        first = self.reported + 1
        self.reported += len(events)
        await self.send(first, *events)
        while True:
            receipt = await self.next_control(Receipt)
            if receipt.through >= self.reported:
                return receipt

    async def accept(self, one: Assignment) -> Receipt:
        """Say that it holds an assignment, and runs it."""
        ref: dict[str, Any] = {"at": now_ms(), "task": one.id, "attempt": one.attempt}
        return await self.report(TaskAccepted(**ref), TaskStarted(**ref))

    async def finish(
        self,
        one: Assignment,
        outcome: Outcome = Outcome.SUCCEEDED,
        result: Any = None,  # noqa: ANN401
    ) -> Receipt:
        """Say that an assignment has ended."""
        return await self.report(
            TaskFinished(at=now_ms(), task=one.id, attempt=one.attempt, outcome=outcome, result=result)
        )

    async def run(self, one: Assignment) -> None:
        """Take an assignment to its end; its result is its params."""
        await self.accept(one)
        await self.finish(one, result=dict(one.params))

    async def publish(self, address: Any, payload: bytes, *, retain: bool = False) -> None:  # noqa: ANN401
        """Publish as this worker."""
        await self.connection.publish(self.topics.build(address), payload, retain=retain)

    def take(self, incoming: Incoming) -> None:
        """Sort what came in."""
        address = self.topics.parse(incoming.topic)
        if isinstance(address, Control):
            self.control.put_nowait(CONTROL.validate_json(incoming.payload))
        elif isinstance(address, WorkerTasks):
            for one in read_worker_tasks(incoming.payload):
                assert not isinstance(one, Refused), one.reason
                self.tasks.put_nowait(one)
        incoming.ack()


@contextlib.asynccontextmanager
async def scripted_worker(
    broker_url: str,
    topics: Topics,
    worker: str = "w1",
    site: str = "site-a",
    *,
    greets: bool = True,
    client_id: str | None = None,
    account: Account | None = None,
    **profile: Any,  # noqa: ANN401
) -> AsyncIterator[ScriptedWorker]:
    """Connect a worker; where it `greets`, begin when the hub has answered its hello."""
    session = new_id()
    link = Link(
        url=broker_url,
        client_id=client_id or f"{topics.root}-{worker}",
        session_expiry_seconds=profile.get("session_expiry_seconds", 0),
        account=account or Account(),
    )
    will = Will(topic=topics.build(Status(site, worker)), payload=encode(Farewell(state="offline", session=session)))
    async with link.connect(will) as connection:
        one = ScriptedWorker(worker, site, topics, connection, session, **profile)
        await connection.subscribe(topics.build(Control(site, worker)), topics.build(WorkerTasks(site, worker)))
        receiving = asyncio.create_task(_receive(one))
        try:
            if greets:
                await one.hello()
            yield one
        finally:
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await receiving


async def _receive(one: ScriptedWorker) -> None:
    try:
        async for incoming in one.connection.messages():
            one.take(incoming)
    except LinkDown:
        pass  # it died, as it was told to


@dataclass
class Asker:
    """A client like `mosquitto_rr`: injects tasks, and hears the answers."""

    topics: Topics
    connection: Connection
    reply_topic: str
    answers: asyncio.Queue[Incoming] = field(default_factory=asyncio.Queue)

    async def inject(
        self,
        topic: str,
        body: object,
        *,
        asks: bool = False,
        retain: bool = False,
        reply_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish to a topic, as JSON or as the bytes that they are; where it `asks`, an answer is expected."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        where = reply_topic or (self.reply_topic if asks else None)
        await self.connection.publish(topic, payload, retain=retain, reply_topic=where, correlation=correlation)

    async def answer(self) -> dict[str, Any]:
        """Return the next answer."""
        incoming: Incoming = await soon(self.answers.get())
        found: dict[str, Any] = json.loads(incoming.payload)
        return {**found, "correlation": incoming.correlation}


@contextlib.asynccontextmanager
async def asker(broker_url: str, topics: Topics, *listens: str) -> AsyncIterator[Asker]:
    """Connect a client that hears replies, and whatever else it `listens` to, in one queue."""
    name = new_id()
    async with Link(url=broker_url, client_id=name).connect() as connection:
        one = Asker(topics, connection, f"{topics.root}/v1/replies/{name}")
        await connection.subscribe(one.reply_topic, *listens)
        receiving = asyncio.create_task(_hear(one))
        try:
            yield one
        finally:
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await receiving


async def _hear(one: Asker) -> None:
    try:
        async for incoming in one.connection.messages():
            one.answers.put_nowait(incoming)
            incoming.ack()
    except LinkDown:
        pass  # its broker was stopped
