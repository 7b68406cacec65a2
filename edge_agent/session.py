"""The worker's two connections (DESIGN §3), from the first subscription to the farewell.

The *main* one is persistent and carries everything but the site's tasks. The *intake* one is clean and lives inside it:
the broker hands a dead member of a shared subscription its share as long as the member's session lives, so that session
must die with the connection.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from broker.clock import new_id, now_ms
from broker.errors import LinkDown
from broker.link import Will
from broker.log import get_logger
from broker.messages import (
    CONTROL,
    STATUS,
    Birth,
    Cancel,
    Credit,
    Farewell,
    HubStatusMessage,
    Receipt,
    ReplyTo,
    Sync,
    Via,
    encode,
)
from broker.problems import explain
from broker.topics import Control, Heartbeat, HubStatus, SiteTasks, Status, WorkerTasks
from edge_agent.rules import handshake
from edge_agent.rules.admission import Message
from edge_agent.rules.attempts import Ref
from edge_agent.rules.handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from broker.link import Connection, Incoming, Link
    from broker.topics import Topics
    from edge_agent.answers import Answers
    from edge_agent.intake import Intake
    from edge_agent.presence import Presence
    from edge_agent.runner import Runner
    from edge_agent.uplink import Uplink

FAREWELL_SECONDS = 1.0
"""How long the last word may take."""

HEARTBEAT_EXPIRES_AFTER = 3
"""Intervals after which the broker forgets a retained heartbeat."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Name:
    """Who this worker is, and where."""

    site: str
    worker: str


class Session:
    """Keeps the worker connected, and says hello, heartbeat and farewell for it.

    Args:
        name: Who this is.
        topics: Where to.
        main: The persistent connection.
        intake_link: The clean one, for the site's tasks.
        intake: Takes tasks in.
        runner: Told what to stop.
        uplink: The journal's way up.
        answers: What is published on response topics.
        presence: What the worker says of itself.
        online: Set while tasks come.

    """

    def __init__(
        self,
        name: Name,
        topics: Topics,
        *,
        main: Link,
        intake_link: Link,
        intake: Intake,
        runner: Runner,
        uplink: Uplink,
        answers: Answers,
        presence: Presence,
        online: asyncio.Event,
    ) -> None:
        self._online = online
        self._topics = topics
        self._site_tasks = SiteTasks(name.site)
        self._tasks = WorkerTasks(name.site, name.worker)
        self._control = Control(name.site, name.worker)
        self._status = Status(name.site, name.worker)
        self._heartbeat = Heartbeat(name.site, name.worker)
        self._main = main
        self._intake_link = intake_link
        self._intake = intake
        self._runner = runner
        self._uplink = uplink
        self._answers = answers
        self._presence = presence
        self._session = ""
        self._handshake = Handshake()
        self._heard_birth = False
        self._greet = asyncio.Event()
        self._no_more_tasks = asyncio.Event()
        self._intake_closed = asyncio.Event()
        self._intake_closed.set()
        self._farewell: Literal["offline", "stopped"] = "offline"

    async def run(self) -> None:
        """Stay connected, until cancelled; then say farewell."""
        await self._main.run(self._serve, will=self._will, on_down=self._on_down)

    async def close_intake(self) -> None:
        """Take no more tasks: return once what has come is committed and the intake's connection is closed."""
        self._no_more_tasks.set()
        await self._intake_closed.wait()

    def leave(self) -> None:
        """Call the end `stopped`, which comes when `run` is cancelled; any other cancellation is `offline`."""
        self._farewell = "stopped"

    # -- one connection, in phases ---------------------------------------------------------------------------------

    def _will(self) -> Will:
        self._session = new_id()
        farewell = Farewell(state="offline", session=self._session)
        return Will(topic=self._topics.build(self._status), payload=encode(farewell))

    async def _serve(self, connection: Connection) -> None:
        self._handshake = Handshake()
        self._heard_birth = False
        self._uplink.on_hub_away()
        build = self._topics.build
        await connection.subscribe(build(self._control), build(HubStatus()), build(self._status), build(self._tasks))
        try:
            await self._say_hello(connection)  # before the intake: a hub knows a worker before it takes a task
            log.info("connected", broker_url=self._main.url, session=self._session)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(connection, group), name="receive")
                group.create_task(self._beat(connection), name="heartbeat")
                group.create_task(self._greet_hub(connection), name="hello")
                group.create_task(self._uplink.run(connection), name="uplink")
                group.create_task(self._answers.run(connection), name="answers")
                group.create_task(self._take_from_site(), name="intake")
        except asyncio.CancelledError:
            await self._say_farewell(connection)  # the connection ends in order, so there will be no will
            raise
        finally:
            self._online.clear()
            self._uplink.on_hub_away()

    def _on_down(self, down: LinkDown, wait_seconds: float) -> None:
        wait = round(wait_seconds, 1)
        log.warning("broker_link_down", reason=down.reason, url=down.url, next_try_seconds=wait)

    # -- hello and heartbeat ---------------------------------------------------------------------------------------

    async def _say_hello(self, connection: Connection) -> None:
        birth = self._presence.birth(self._session)
        await connection.publish(self._topics.build(self._status), encode(birth), retain=True)

    async def _say_farewell(self, connection: Connection) -> None:
        farewell = Farewell(state=self._farewell, session=self._session)
        with contextlib.suppress(LinkDown, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await connection.publish(self._topics.build(self._status), encode(farewell), retain=True)

    async def _greet_hub(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._greet.clear()
            due = self._handshake.hello_at
            if due is not None and loop.time() >= due:
                self._handshake = handshake.on_hello(self._handshake, loop.time())
                await self._say_hello(connection)
                continue
            try:
                async with asyncio.timeout_at(due):
                    await self._greet.wait()
            except TimeoutError:
                pass  # it is due

    async def _beat(self, connection: Connection) -> None:
        interval = self._presence.profile.heartbeat_interval_seconds
        expiry = max(1, round(HEARTBEAT_EXPIRES_AFTER * interval))
        topic = self._topics.build(self._heartbeat)
        while True:
            payload = encode(self._presence.heartbeat(self._session))
            await connection.publish(topic, payload, retain=True, expiry_seconds=expiry)
            await asyncio.sleep(interval)

    # -- the site's tasks ------------------------------------------------------------------------------------------

    async def _take_from_site(self) -> None:
        if self._no_more_tasks.is_set():
            return
        self._intake_closed.clear()
        try:
            await self._intake_link.run(self._serve_intake, on_down=self._on_intake_down)
        finally:
            self._intake_closed.set()

    def _on_intake_down(self, down: LinkDown, wait_seconds: float) -> None:
        self._online.clear()
        self._on_down(down, wait_seconds)

    async def _serve_intake(self, connection: Connection) -> None:
        pattern = self._topics.intake(self._site_tasks.site)
        await connection.subscribe(pattern)
        self._online.set()
        log.info("online", site=self._site_tasks.site, worker=self._status.worker)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read_site_tasks(connection, group), name="read-site-tasks")
            await self._no_more_tasks.wait()
            # Between UNSUBACK and here nothing more is handed to us; what was comes to its commit.
            await connection.unsubscribe(pattern)
            while connection.waiting():  # noqa: ASYNC110  the reader has them within a turn of the loop
                await asyncio.sleep(0)
            reader.cancel()

    async def _read_site_tasks(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        async for incoming in connection.messages():
            group.create_task(_guard(self._take(incoming, Via.SITE), incoming.topic))

    async def _take(self, incoming: Incoming, via: Via) -> None:
        if incoming.retained:  # the broker repeats it to every new subscriber: it ran when it was published
            log.warning("retained_task_ignored", topic=incoming.topic)
        else:
            await self._intake.take(_message(incoming, via, self._topics))
        incoming.ack()

    # -- what comes to this worker alone ---------------------------------------------------------------------------

    async def _receive(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        build = self._topics.build
        tasks, control = build(self._tasks), build(self._control)
        hub, status = build(HubStatus()), build(self._status)
        async for incoming in connection.messages():
            match incoming.topic:
                case topic if topic == tasks:
                    self._on_tasks(incoming, group)
                    continue
                case topic if topic == control:
                    self._on_control(incoming, group)
                    continue
                case topic if topic == hub:
                    self._on_hub_status(incoming)
                case topic if topic == status:
                    self._on_own_status(incoming)
            incoming.ack()

    def _on_tasks(self, incoming: Incoming, group: asyncio.TaskGroup) -> None:
        # Stopping, it stays unacknowledged: the broker keeps it for this worker's next start.
        if not self._no_more_tasks.is_set():
            group.create_task(_guard(self._take(incoming, Via.WORKER), incoming.topic))

    def _on_control(self, incoming: Incoming, group: asyncio.TaskGroup) -> None:
        try:
            order = CONTROL.validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        match order:
            case Receipt():
                self._uplink.on_receipt(order.stream, order.through)
            case Credit():
                self._uplink.on_credit(order.batches)
            case Cancel():
                self._runner.cancel(Ref(order.task, order.attempt), order.reason)
            case Sync() if order.session == self._session:
                group.create_task(_guard(self._on_sync(order, incoming), incoming.topic))
                return
        incoming.ack()

    async def _on_sync(self, sync: Sync, incoming: Incoming) -> None:
        self._handshake = handshake.on_sync(self._handshake)
        self._greet.set()
        for ref in sync.drop:
            self._runner.cancel(Ref(ref.task, ref.attempt), "the hub has given it to another worker, or ended it")
        self._uplink.on_sync(sync.stream, sync.committed_through, sync.credit)
        log.info("synced", stream=sync.stream, committed_through=sync.committed_through)
        if not self._no_more_tasks.is_set():
            await self._intake.take_assigned(sync.send)
        incoming.ack()

    def _on_hub_status(self, incoming: Incoming) -> None:
        try:
            status = HubStatusMessage.model_validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        now = asyncio.get_running_loop().time()
        if status.state == "online":
            self._handshake = handshake.on_hub_online(
                self._handshake, status.session, was_there=not self._heard_birth, now=now
            )
        else:
            self._handshake = handshake.on_hub_offline(self._handshake, status.session)
        if not self._handshake.synced:
            self._uplink.on_hub_away()
        log.info("hub", state=status.state, session=status.session)
        self._greet.set()

    def _on_own_status(self, incoming: Incoming) -> None:
        try:
            status = STATUS.validate_json(incoming.payload)
        except ValidationError as error:
            log.warning("status_not_understood", problem=str(explain(error, root="message")[0]))
        else:
            if status.session == self._session:
                self._heard_birth = True
                return
            if isinstance(status, Birth) and self._presence.is_of_another(status):
                # Mosquitto 2.0 does not say that a session was taken over; the other's birth does.
                log.error(
                    "worker_id_in_use",
                    worker=self._status.worker,
                    reason="another agent runs with this worker's id: give each its own WORKER_ID",
                )
        if not self._heard_birth:
            return  # it is older than our birth, which comes back to us in its turn
        log.info("status_healed", was=incoming.payload[:200])
        self._handshake = handshake.on_overwritten(self._handshake, asyncio.get_running_loop().time())
        self._greet.set()


def _message(incoming: Incoming, via: Via, topics: Topics) -> Message:
    """Return a message as admission reads it, with where to answer."""
    topic, correlation = incoming.reply_topic, incoming.correlation
    if topic is None:
        return Message(incoming.topic, via, incoming.payload, now_ms())
    if not topics.is_reply(topic):
        return Message(incoming.topic, via, incoming.payload, now_ms(), wrong_reply=topic)
    encoded = base64.b64encode(correlation).decode() if correlation is not None else None
    reply = ReplyTo(topic=topic, correlation=encoded)
    return Message(incoming.topic, via, incoming.payload, now_ms(), reply)


async def _guard(work: Awaitable[None], topic: str) -> None:
    """Keep one message's trouble (a full disk, say) to itself: it stays unacknowledged, and comes again."""
    try:
        await work
    except Exception:
        log.exception("message_not_handled", topic=topic)


def _complain(incoming: Incoming, error: ValidationError) -> None:
    log.warning("message_not_understood", topic=incoming.topic, problem=str(explain(error, root="message")[0]))
    incoming.ack()
