"""Hears what workers say of themselves: births, farewells and heartbeats; and answers hellos (DESIGN §5, §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import STATUS, Birth, HeartbeatMessage
from hub.rules import clocks, presence as rules
from hub.worker import Hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.link import Incoming
    from broker.messages import Farewell
    from broker.topics import Heartbeat, Status
    from hub.attendance import Attendance
    from hub.fleet import Fleet
    from hub.greeting import Greeting
    from hub.wire import Wire
    from hub.worker import Worker

log = get_logger(__name__)


class Listener(Protocol):
    """Who is told what workers hold."""

    def on_hello(self, hello: Hello) -> None:
        """Take what a worker says that it holds, in a hello or later; `on_synced` follows."""

    def on_heartbeat(self, hello: Hello) -> None:
        """Take what a worker says in a heartbeat that it holds: it answers for that."""

    def on_synced(self, worker_id: str) -> None:
        """Take note that all of a worker's journal, as it was at its last `on_hello`, is committed."""


class Reception:
    """Takes what workers publish of themselves. What is said holds before this first waits.

    Args:
        fleet: The workers.
        attendance: Moves and keeps them.
        greeting: Answers hellos.
        wire: Is told how to reach whom.
        listener: Is told what they hold.

    Attributes:
        on_greeted: Called with each worker whose hello was answered.

    """

    def __init__(
        self, *, fleet: Fleet, attendance: Attendance, greeting: Greeting, wire: Wire, listener: Listener
    ) -> None:
        self._fleet = fleet
        self._attendance = attendance
        self._greeting = greeting
        self._wire = wire
        self._listener = listener
        self.on_greeted: Callable[[Worker], None] = lambda _: None

    async def on_status(self, address: Status, incoming: Incoming) -> None:
        """Take a birth or a farewell; answer a birth with `Sync`."""
        received_at = now_ms()
        try:
            status = STATUS.validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        if isinstance(status, Birth) and not incoming.retained and not self._is_over(address.worker, status.session):
            await self._greet(self._fleet.at_home(address.worker, address.site), status, received_at)
        else:
            worker = self._fleet.speaker(address.worker, address.site, retained=incoming.retained)
            if worker:
                self._take_status(worker, status, retained=incoming.retained, now=received_at)
                await self._attendance.keep(worker)
        incoming.ack()

    async def on_heartbeat(self, address: Heartbeat, incoming: Incoming) -> None:
        """Take a worker's load, its clock, and what it holds."""
        try:
            heartbeat = HeartbeatMessage.model_validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        worker = self._fleet.speaker(address.worker, address.site, retained=incoming.retained)
        if worker and not (incoming.retained and worker.heartbeat):  # what a broker repeats is no news
            self._take_heartbeat(worker, heartbeat, retained=incoming.retained)
            await self._attendance.keep(worker)
        incoming.ack()

    def on_committed(self, worker_id: str, stream: str, through: int) -> None:
        """Note how far a worker's journal is committed."""
        worker = self._fleet.get(worker_id)
        if worker:
            worker.marks[stream] = through
            self._greeting.on_committed(worker_id, stream, through)
            self._look_for_sync(worker)

    def _is_over(self, worker_id: str, session: str) -> bool:
        """Tell whether a hello is an old one, which a broker has repeated after a restart."""
        worker = self._fleet.get(worker_id)
        return worker is not None and rules.is_over(worker.presence, session)

    async def _greet(self, worker: Worker, birth: Birth, received_at: int) -> None:
        interval_ms = int(birth.heartbeat_interval_seconds * 1000)
        worker.birth = worker.unsynced = birth
        worker.synced = worker.checking = None  # what it showed earlier says nothing of what it was offered since
        self._wire.reach(worker.id, by_http=worker.by_http)
        presence = rules.on_birth(worker.presence, birth.session, interval_ms, retained=False, now=received_at)
        self._attendance.move(worker, presence)
        self._listener.on_hello(Hello.of(worker.id, birth.held, birth.journal, is_birth=True))
        through = await self._greeting.answer(worker, birth, received_at=received_at)
        if through is not None:
            worker.marks[birth.journal.stream] = through
            self._look_for_sync(worker)
            self.on_greeted(worker)

    def _take_status(self, worker: Worker, status: Birth | Farewell, *, retained: bool, now: int) -> None:
        """Take a farewell, or what the broker has kept of a birth: no hello, which follows when it hears of us."""
        known = worker.presence
        if isinstance(status, Birth):
            interval_ms = int(status.heartbeat_interval_seconds * 1000)
            presence = rules.on_birth(known, status.session, interval_ms, retained=True, now=now)
            if presence is not known:
                worker.birth = status
                self._wire.reach(worker.id, by_http=worker.by_http)
        else:
            stopped = status.state == "stopped"
            presence = rules.on_farewell(known, status.session, stopped=stopped, retained=retained, now=now)
        self._attendance.move(worker, presence)

    def _take_heartbeat(self, worker: Worker, heartbeat: HeartbeatMessage, *, retained: bool) -> None:
        if heartbeat.clock:
            worker.clocks = clocks.learn(worker.clocks, heartbeat.clock)
        presence = rules.on_heartbeat(worker.presence, heartbeat.session, retained=retained, now=now_ms())
        is_current = presence.session == heartbeat.session
        if worker.heartbeat is None or is_current:
            worker.heartbeat = heartbeat
        self._attendance.move(worker, presence)
        if is_current and not retained:
            self._take_held(worker, heartbeat)

    def _take_held(self, worker: Worker, heartbeat: HeartbeatMessage) -> None:
        if heartbeat.held is None or heartbeat.position is None:
            return
        said = Hello.of(worker.id, heartbeat.held, heartbeat.position)
        self._listener.on_heartbeat(said)
        # One look at a time: a busy worker's journal has always grown when the next heartbeat comes.
        if worker.unsynced is None and worker.checking is None:
            worker.checking = heartbeat.position
            self._listener.on_hello(said)
            self._look_for_sync(worker)

    def _look_for_sync(self, worker: Worker) -> None:
        """Tell when all is committed that a worker's journal held when it said what it holds."""
        if worker.unsynced and worker.has_committed(worker.unsynced.journal):
            worker.unsynced, worker.synced = None, worker.unsynced
            self._listener.on_synced(worker.id)
        elif worker.checking and worker.has_committed(worker.checking):
            worker.checking = None
            self._listener.on_synced(worker.id)


def _complain(incoming: Incoming, error: ValidationError) -> None:
    log.warning("message_not_understood", topic=incoming.topic, problem=str(error.errors(include_url=False)[:1]))
    incoming.ack()
