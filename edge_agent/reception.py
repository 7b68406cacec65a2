"""What comes to this worker alone, on its main connection: its own tasks topic, the hub's orders and presence."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import (
    CONTROL,
    STATUS,
    Cancel,
    Credit,
    HubStatusMessage,
    ReadLog,
    Receipt,
    Renew,
    ReplyTo,
    Schedules,
    Sync,
    Via,
)
from broker.problems import explain
from broker.topics import BRIDGE_CUT, Bridge, Control, HubStatus, Status, WorkerTasks
from edge_agent.errors import StorageClosed
from edge_agent.rules.admission import Message
from edge_agent.rules.attempts import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker.link import Incoming
    from broker.topics import Topics
    from edge_agent.connection import Connection
    from edge_agent.greeter import Greeter
    from edge_agent.intake import Intake
    from edge_agent.presence import Name
    from edge_agent.readout import Readout
    from edge_agent.runner import Runner
    from edge_agent.schedule.clockwork import Clockwork
    from edge_agent.uplink import Uplink

DROPPED = "the hub has given it to another worker, or ended it"

log = get_logger(__name__)


class Reception:
    """Takes in what comes, and acknowledges it when it is safe.

    Args:
        name: Who this is.
        topics: What its topics are called.
        greeter: Hears of hubs, and of the worker's own status.
        intake: Takes tasks in.
        runner: Told what to stop.
        uplink: Hears receipts and credit.
        on_renew: Called when the hub asks to open the intake anew.
        clockwork: Takes what the hub wants to be fired here.
        readout: Sends the hub what it wants of a log.

    """

    def __init__(
        self,
        name: Name,
        topics: Topics,
        *,
        greeter: Greeter,
        intake: Intake,
        runner: Runner,
        uplink: Uplink,
        on_renew: Callable[[], None],
        clockwork: Clockwork,
        readout: Readout,
    ) -> None:
        self._topics = topics
        self._tasks = topics.build(WorkerTasks(name.site, name.worker))
        self._control = topics.build(Control(name.site, name.worker))
        self._hub = topics.build(HubStatus())
        self._bridge = topics.build(Bridge(name.site))
        self._status = topics.build(Status(name.site, name.worker))
        self._greeter = greeter
        self._intake = intake
        self._runner = runner
        self._uplink = uplink
        self._on_renew = on_renew
        self._clockwork = clockwork
        self._readout = readout
        self._takes: set[asyncio.Task[None]] = set()
        self._takes_tasks = True

    @property
    def filters(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return self._control, self._hub, self._bridge, self._status, self._tasks

    def take_no_more(self) -> None:
        """Leave tasks that come from now on unacknowledged: the broker keeps them for this worker's next start."""
        self._takes_tasks = False

    async def settled(self) -> None:
        """Return when the tasks that have come are committed."""
        if self._takes:
            await asyncio.wait(set(self._takes))

    async def receive(self, connection: Connection) -> None:
        """Take in what comes, until the connection ends."""
        async with asyncio.TaskGroup() as group:
            async for incoming in connection.messages():
                self._sort(connection, incoming, group)

    async def take(self, incoming: Incoming, via: Via) -> None:
        """Take in a message of a tasks topic, and acknowledge it after the commit."""
        if incoming.retained:  # the broker repeats it to every new subscriber: it ran when it was published
            log.warning("retained_task_ignored", topic=incoming.topic)
            incoming.ack()
            return
        await _handle(self._intake.take(_message(incoming, via, self._topics)), incoming)

    def _sort(self, connection: Connection, incoming: Incoming, group: asyncio.TaskGroup) -> None:
        match incoming.topic:
            case self._tasks:
                self._on_tasks(incoming, group)
            case self._control:
                self._on_control(connection, incoming, group)
            case self._hub:
                self._on_hub_status(incoming)
            case self._bridge:
                self._on_bridge(incoming)
            case self._status:
                self._on_own_status(incoming)
            case _:
                incoming.ack()

    def _on_tasks(self, incoming: Incoming, group: asyncio.TaskGroup) -> None:
        if self._takes_tasks:
            task = group.create_task(self.take(incoming, Via.WORKER), name="take")
            self._takes.add(task)
            task.add_done_callback(self._takes.discard)

    # -- the hub's orders --------------------------------------------------------------------------------------------

    def _on_control(self, connection: Connection, incoming: Incoming, group: asyncio.TaskGroup) -> None:
        heard_at = now_ms()
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
            case Renew():
                self._on_renew()
            case ReadLog():
                group.create_task(self._readout.answer(connection, order), name="readout")
            case Schedules():
                group.create_task(_handle(self._on_schedules(connection, order), incoming), name="schedules")
                return
            case Sync() if order.session == self._greeter.session:
                group.create_task(_handle(self._on_sync(connection, order, heard_at), incoming), name="sync")
                return
        incoming.ack()

    async def _on_sync(self, connection: Connection, sync: Sync, heard_at: int) -> None:
        if self._uplink.knows_more(sync.stream, sync.committed_through):
            await self._uplink.begin_stream()
            await self._greeter.say_hello(connection)
            return
        self._greeter.on_sync(sync, heard_at)
        for ref in sync.drop:
            self._runner.cancel(Ref(ref.task, ref.attempt), DROPPED)
        await self._greeter.beat(connection)  # the clock, before any event that is stamped by it
        if self._greeter.is_synced:  # with the hub that is there now
            self._uplink.on_sync(sync.stream, sync.committed_through, sync.credit)
            self._runner.on_hub()
            log.info("synced", stream=sync.stream, committed_through=sync.committed_through)
        if self._takes_tasks:
            await self._intake.take_assigned(sync.send)

    async def _on_schedules(self, connection: Connection, order: Schedules) -> None:
        await self._clockwork.take(order)
        await self._greeter.say_hello(connection)  # the hub sees by it that they are taken

    # -- presence ----------------------------------------------------------------------------------------------------

    def _on_hub_status(self, incoming: Incoming) -> None:
        try:
            status = HubStatusMessage.model_validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        self._greeter.on_hub_status(status)
        self._look_for_hub()
        incoming.ack()

    def _on_bridge(self, incoming: Incoming) -> None:
        self._greeter.on_bridge(is_joined=incoming.payload != BRIDGE_CUT, retained=incoming.retained)
        self._look_for_hub()
        incoming.ack()

    def _look_for_hub(self) -> None:
        if not self._greeter.is_synced:
            self._uplink.on_hub_away()

    def _on_own_status(self, incoming: Incoming) -> None:
        try:
            status = STATUS.validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        self._greeter.on_own_status(status)
        incoming.ack()


def _message(incoming: Incoming, via: Via, topics: Topics) -> Message:
    """Return a message as admission reads it, with where to answer."""
    message = partial(Message, incoming.topic, via, incoming.payload, now_ms())
    topic, correlation = incoming.reply_topic, incoming.correlation
    if topic is None:
        return message()
    if not topics.is_reply(topic):
        return message(wrong_reply=topic)
    encoded = base64.b64encode(correlation).decode() if correlation is not None else None
    return message(reply=ReplyTo(topic=topic, correlation=encoded))


async def _handle(work: Coroutine[None, None, None], incoming: Incoming) -> None:
    """Do `work`, then acknowledge. One message's trouble is its own: it stays unacknowledged, and comes again."""
    try:
        await work
    except StorageClosed as error:  # the agent is about to begin anew with another file
        log.debug("message_not_handled", topic=incoming.topic, reason=error.reason)
    except Exception:
        log.exception("message_not_handled", topic=incoming.topic)
    else:
        incoming.ack()


def _complain(incoming: Incoming, error: ValidationError) -> None:
    log.warning("message_not_understood", topic=incoming.topic, problem=str(explain(error, root="message")[0]))
    incoming.ack()
