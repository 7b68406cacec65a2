"""The hub's connection to the broker: what comes in goes to who answers for it, what goes out waits in one queue.

A message is acknowledged only by who has committed it. What is queued when the link goes is forgotten: receipts,
assignments and the rest are all said again by those who need them.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from broker import __version__
from broker.clock import new_id
from broker.errors import LinkDown, Refused, TopicError
from broker.link import Link, Will
from broker.log import get_logger
from broker.messages import HubStatusMessage, encode
from broker.topics import (
    Bridge,
    Control,
    Events,
    Heartbeat,
    HubStatus,
    Reply,
    SiteTasks,
    Status,
    Topics,
    WorkerTasks,
    WorkerTopic,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.link import Connection, Incoming
    from broker.topics import Address
    from hub.mailboxes import Mailboxes

SENDERS = 8
"""Publications on their way to the broker at one time."""

FAREWELL_SECONDS = 1.0
"""How long a farewell may take."""

RETRY_SECONDS = 2.0
"""How long a message waits that could not be handled. Its sender is held back by MQTT's own window meanwhile."""

SESSION_EXPIRY_SECONDS = 3600
"""How long the broker keeps for the hub what was published while it was away."""

_OWN = (Events, Heartbeat, Status)
"""What a worker says of itself."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that waits to be published."""

    topic: str
    payload: bytes
    correlation: bytes | None = None
    retain: bool = False


class TasksHandler(Protocol):
    """Answers for a message of a tasks topic; `away` where it was published while the hub was away."""

    def __call__(self, address: SiteTasks | WorkerTasks, incoming: Incoming, *, away: bool) -> Awaitable[None]:
        """Take the message, and acknowledge it."""


class Impostor(Protocol):
    """Tells whether what came on a worker's own topic is not that worker's."""

    def __call__(self, address: WorkerTopic, *, retained: bool) -> bool:
        """Tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Who answers for what comes in. Each acknowledges what it was given; what an impostor says, nobody is given."""

    tasks: TasksHandler
    events: Callable[[Events, Incoming], Awaitable[None]]
    status: Callable[[Status, Incoming], Awaitable[None]]
    heartbeat: Callable[[Heartbeat, Incoming], Awaitable[None]]
    bridge: Callable[[Bridge, Incoming], Awaitable[None]]
    reply: Callable[[Incoming], Awaitable[None]]
    stray: Callable[[Incoming, TopicError], Awaitable[None]]
    is_impostor: Impostor
    link_up: Callable[[], None]
    link_lost: Callable[[], None]


class Wire:
    """The hub's end of MQTT.

    Args:
        link: How to reach the broker.
        topics: What they are called there.
        mailboxes: Where messages for workers go that cannot reach a broker.

    """

    def __init__(self, link: Link, topics: Topics, mailboxes: Mailboxes) -> None:
        self.topics = topics
        self.connected = asyncio.Event()
        self._link = link
        self._mailboxes = mailboxes
        self._by_http: set[str] = set()
        self._outbox: asyncio.Queue[Outgoing] = asyncio.Queue()
        self._session = ""
        self._away = True
        self._refused: set[tuple[str, int]] = set()
        self._beside: dict[str, Callable[[Incoming], None]] = {}
        # The same after a restart: the broker keeps the subscription, and they would gather there.
        self._own_replies = f"hub-{sha256(link.client_id.encode()).hexdigest()[:16]}"

    def listen(self, topic: str, handler: Callable[[Incoming], None]) -> None:
        """Give `handler` what comes on a topic of the broker's own; it acknowledges. For before the link is made."""
        self._beside[topic] = handler

    @property
    def reply_topic(self) -> str:
        """Where workers answer this hub."""
        return self.topics.build(Reply(f"{self._own_replies}/logs"))

    def is_own_reply(self, address: Reply) -> bool:
        """Tell whether a reply is for this hub, and not for somebody who asked by way of the broker."""
        return address.path.startswith(f"{self._own_replies}/")

    def reach(self, worker: str, *, by_http: bool) -> None:
        """Say how a worker is reached from now on."""
        if by_http:
            self._by_http.add(worker)
        else:
            self._by_http.discard(worker)

    def send(self, address: Address, payload: bytes) -> None:
        """Queue a message. While there is no link it is dropped: whoever needs it asks again on reconnect."""
        topic = self.topics.build(address)
        if isinstance(address, WorkerTopic) and address.worker in self._by_http:
            self._mailboxes.put(address.worker, topic, payload)
        else:
            self.send_to(topic, payload)

    def send_to(self, topic: str, payload: bytes, correlation: bytes | None = None, *, retain: bool = False) -> None:
        """Queue a message for a topic that somebody else named: a reply."""
        if self.connected.is_set():
            self._outbox.put_nowait(Outgoing(topic, payload, correlation, retain))

    async def run(self, handlers: Handlers) -> None:
        """Keep the hub connected until cancelled; then say farewell."""
        try:
            # What has come is handled to its end, whatever becomes of the connection: what is committed must be told to
            # the rest of the hub, and when the message comes again it says nothing new.
            async with asyncio.TaskGroup() as work:
                await self._link.run(
                    lambda connection: self._serve(connection, handlers, work),
                    will=self._will,
                    on_down=lambda down, wait: log.warning(
                        "broker_link_down", **down.told, next_try_seconds=round(wait, 1)
                    ),
                )
        finally:
            self.connected.clear()

    def _will(self) -> Will:
        self._session = new_id()
        farewell = HubStatusMessage(state="offline", session=self._session)
        return Will(topic=self.topics.build(HubStatus()), payload=encode(farewell))

    async def _serve(self, connection: Connection, handlers: Handlers, work: asyncio.TaskGroup) -> None:
        self._away = True
        lost = asyncio.Event()
        self._outbox = asyncio.Queue()
        self._refused.clear()
        await connection.subscribe(self.topics.all_of_sites(), no_local=True)
        await connection.subscribe(self.topics.build(HubStatus()), self.topics.replies_to(self._own_replies))
        await self._subscribe_beside(connection)
        self.connected.set()
        handlers.link_up()
        log.info("broker_connected", url=self._link.url)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(connection, handlers, work, lost), name="hub-receive")
                for number in range(SENDERS):
                    group.create_task(self._publish_queued(connection), name=f"hub-send-{number}")
                await self._announce(connection, "online")
        except asyncio.CancelledError:
            with contextlib.suppress(LinkDown, TimeoutError):  # the will says it, where the broker does not answer
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._announce(connection, "offline")
            raise
        finally:
            lost.set()
            self.connected.clear()
            handlers.link_lost()

    async def _subscribe_beside(self, connection: Connection) -> None:
        for topic in self._beside:
            try:
                await connection.subscribe(topic)
            except Refused as refused:  # who listens there goes without: workers and tasks do not need it
                log.error("subscription_refused", topic=topic, **refused.told)  # noqa: TRY400

    async def _announce(self, connection: Connection, state: str) -> None:
        status = HubStatusMessage.model_validate({"state": state, "session": self._session, "version": __version__})
        await connection.publish(self.topics.build(HubStatus()), encode(status), retain=True)

    async def _publish_queued(self, connection: Connection) -> None:
        while True:
            out = await self._outbox.get()
            try:
                await connection.publish(out.topic, out.payload, retain=out.retain, correlation=out.correlation)
            except Refused as refused:  # it is dropped, as without a link: what others are told still goes out
                self._tell_refused(out.topic, refused)

    def _tell_refused(self, topic: str, refused: Refused) -> None:
        """Log what the broker refuses, once on a connection for each kind of topic: there may be thousands of them."""
        try:
            kind = type(self.topics.parse(topic)).__name__
        except TopicError:
            kind = topic
        if (kind, refused.code) not in self._refused:
            self._refused.add((kind, refused.code))
            log.error("publish_refused", topic=topic, kind=kind, **refused.told)

    async def _receive(
        self, connection: Connection, handlers: Handlers, work: asyncio.TaskGroup, lost: asyncio.Event
    ) -> None:
        async for incoming in connection.messages():
            if incoming.topic in self._beside:
                self._beside[incoming.topic](incoming)
                continue
            try:
                address = self.topics.parse(incoming.topic)
            except TopicError as error:
                work.create_task(_handle(partial(handlers.stray, incoming, error), incoming.topic, lost))
                continue
            if isinstance(address, _OWN) and handlers.is_impostor(address, retained=incoming.retained):
                incoming.ack()
                continue
            one = self._route(address, incoming, handlers)
            if one is None:
                incoming.ack()
            else:
                work.create_task(_handle(one, incoming.topic, lost))

    def _route(self, address: Address, incoming: Incoming, handlers: Handlers) -> Callable[[], Awaitable[None]] | None:
        """Choose who answers. Tasks begin in the order of their messages, so what they submit is committed in order."""
        one: Callable[[], Awaitable[None]] | None = None
        match address:
            case SiteTasks() | WorkerTasks():
                one = partial(handlers.tasks, address, incoming, away=self._away)
            case Events():
                one = partial(handlers.events, address, incoming)
            case Status():
                one = partial(handlers.status, address, incoming)
            case Heartbeat():
                one = partial(handlers.heartbeat, address, incoming)
            case Bridge():
                one = partial(handlers.bridge, address, incoming)
            case Reply() if self.is_own_reply(address):
                one = partial(handlers.reply, incoming)
            case HubStatus():
                self._on_own_status(incoming)
            case Control():
                log.debug("control_of_another_hub", topic=incoming.topic)
        return one

    def _on_own_status(self, incoming: Incoming) -> None:
        # What the broker kept for us comes in order, so our own birth comes back after the last of it.
        if self._session.encode() in incoming.payload:
            self._away = False


async def _handle(work: Callable[[], Awaitable[None]], topic: str, lost: asyncio.Event) -> None:
    """Do `work`, and again after a while where it fails (a full disk, say): until then it stays unacknowledged.

    Once the connection is lost it is not tried again: the message comes again with the next one.
    """
    while not lost.is_set():
        try:
            await work()
        except Exception:
            log.exception("message_not_handled", topic=topic, next_try_seconds=RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return
