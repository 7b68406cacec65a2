"""A hub: the product's own parts, put together as `hub.app` does, on a database of values and a wire without MQTT."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from broker.link import Incoming
from broker.messages import HubStatusMessage, TaskSubmission, encode
from broker.topics import Events, Heartbeat, HubStatus, SiteTasks, Status, Topics, WorkerTasks
from hub.actions import Actions
from hub.attendance import Attendance
from hub.dispatch import Dispatcher
from hub.errors import NotPossible
from hub.feed import Feed
from hub.fleet import Fleet
from hub.greeting import Greeting
from hub.inbound import Inbound
from hub.reception import Reception
from hub.replies import Replies
from hub.rules.callers import ANYBODY
from hub.settings import HubSettings
from hub.submission import Submissions
from tests.model import store
from tests.model.broker import HUB, Letter
from tests.model.writer import Commit, Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection

    from broker.messages import TaskSpec
    from broker.topics import Address
    from hub.rules.actions import Action
    from hub.store.ledger import Ledger as RealLedger
    from hub.wire import Wire as RealWire
    from tests.model.broker import Delivery, Line
    from tests.model.store import Database
    from tests.model.world import World

TICK_MS = 1_000
TOPICS = Topics("edge")
SETTINGS = HubSettings.model_construct(accept_timeout_seconds=10.0, lost_after_seconds=90.0)

Result = TypeVar("Result")


class Ledger:
    """Commits when the model says so."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = cast("Connection", database)
        self._writer = writer

    async def commit(self, work: Callable[[Connection], Result]) -> Result:
        result: Result = await Commit(partial(work, self._database))
        return result

    def submit(self, work: Callable[[Connection], object]) -> Unattended:
        self._writer.begin(_await(self.commit(work)))
        return Unattended()


class Unattended:
    """The future of work for which nobody waits: nothing fails here."""

    def add_done_callback(self, callback: object) -> None:
        pass


class Connected:
    """Whether the wire is, as `asyncio.Event` says it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def is_set(self) -> bool:
        return self._wire.line is not None


class Wire:
    """The hub's end of MQTT."""

    topics = TOPICS

    def __init__(self) -> None:
        self.line: Line | None = None
        self.connected = Connected(self)

    def reach(self, worker: str, *, by_http: bool) -> None:
        pass

    def send(self, address: Address, payload: bytes) -> None:
        if self.line is not None:
            self.line.publish(address, payload)


class Hub:
    """One run of the hub: everything here is gone with a crash."""

    def __init__(self, world: World, database: Database) -> None:
        self.world = world
        self.writer = Writer(NotPossible)
        self.frozen = False
        self._session = ""
        self._away = True
        self._looked_ms = world.now
        self._busy: set[str] = set()
        self._wire = Wire()
        wire, ledger = cast("RealWire", self._wire), cast("RealLedger", Ledger(database, self.writer))
        feed, replies = Feed(), Replies(wire)
        greeting = Greeting(ledger, feed, wire)
        self.fleet = Fleet()
        self._attendance = Attendance(self.fleet, ledger, wire, greeting)
        self.dispatcher = Dispatcher(SETTINGS, self.fleet, ledger, feed, wire)
        self._reception = Reception(
            fleet=self.fleet, attendance=self._attendance, greeting=greeting, wire=wire, listener=self.dispatcher
        )
        self._submissions = Submissions(ledger, feed, self.fleet, wire, replies)
        self._actions = Actions(ledger, feed, self.dispatcher)
        self._inbound = Inbound(
            ledger=ledger,
            feed=feed,
            fleet=self.fleet,
            reception=self._reception,
            dispatcher=self.dispatcher,
            wire=wire,
            replies=replies,
        )
        self._attendance.listen(self.dispatcher.on_fleet)
        feed.listen(self.dispatcher.on_changes)
        self._attendance.load(store.load_workers(database))
        self.dispatcher.load(store.unended(database))

    @property
    def line(self) -> Line | None:
        return self._wire.line

    # -- the link --------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        broker = self.world.broker
        self._session = self.world.new_id("hub")
        will = Letter(HubStatus(), self._status("offline"), retain=True)
        line = self._wire.line = broker.connect(HUB, will=will)
        self._away = True
        broker.subscribe_to_all_sites(line)
        broker.subscribe(line, HubStatus())
        self._attendance.on_link_up()
        self.dispatcher.on_link_up()
        line.publish(HubStatus(), self._status("online"), retain=True)

    def on_link_down(self) -> None:
        self._wire.line = None
        self._attendance.on_link_lost()

    def _status(self, state: str) -> bytes:
        return encode(HubStatusMessage.model_validate({"state": state, "session": self._session}))

    # -- what comes ------------------------------------------------------------------------------------------------

    def receive(self, line: Line, delivery: Delivery) -> None:
        letter = delivery.letter
        incoming = Incoming(
            topic="",
            payload=letter.body,
            retained=letter.retained,
            reply_topic=None,
            correlation=None,
            ack=partial(line.acknowledge, delivery),
        )
        match letter.address:
            case SiteTasks() | WorkerTasks() as address:
                self._begin(self._submissions.on_tasks(address, incoming, away=self._away))
            case Events() as address:
                self._begin(self._inbound.on_events(address, incoming))
            case Status() as address:
                self._begin(self._reception.on_status(address, incoming))
            case Heartbeat() as address:
                self._begin(self._reception.on_heartbeat(address, incoming))
            case _:
                if self._session.encode() in letter.body:
                    self._away = False
                incoming.ack()

    def post(self, task_id: str, spec: TaskSpec, site: str, pinned: str | None) -> None:
        """Take a task by HTTP."""
        asked = {name: getattr(spec, name) for name in type(spec).model_fields}
        submission = TaskSubmission.model_construct(**asked, id=task_id, site=site, worker=pinned)
        self._begin(self._submissions.post([submission], ANYBODY))

    def act(self, task_id: str, action: Action) -> None:
        """Do to a task what a person asks for, if its state allows that."""
        self._begin(self._act(task_id, action))

    async def _act(self, task_id: str, action: Action) -> None:
        with contextlib.suppress(NotPossible):
            await self._actions.do(task_id, action, ANYBODY)

    # -- what it does by itself ------------------------------------------------------------------------------------

    @property
    def can_place(self) -> bool:
        return self.dispatcher.is_awake and "place" not in self._busy

    def place(self) -> None:
        self._begin(self._once("place", self.dispatcher.place()))

    def tick(self) -> None:
        """Look after deadlines and silence; a look that waits for its commit is not overtaken by the next."""
        before, now = self._looked_ms, self.world.now
        self._looked_ms = now
        self._attendance.look(before, now, every_ms=TICK_MS)
        if "look" not in self._busy:
            self._begin(self._once("look", self.dispatcher.look(before, now, every_ms=TICK_MS)))

    async def _once(self, name: str, work: Awaitable[None]) -> None:
        self._busy.add(name)
        await work
        self._busy.discard(name)

    def _begin(self, work: Awaitable[object]) -> None:
        self.writer.begin(_await(work))


async def _await(work: Awaitable[Any]) -> None:
    await work
