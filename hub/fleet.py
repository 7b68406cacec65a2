"""Every worker that the hub knows: whether it is there, what it can do, and how its journal stands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import BUILT_IN_KINDS, STATUS, Birth, HeartbeatMessage, encode
from broker.topics import Control
from hub.rules import presence as rules
from hub.rules.adoption import Witness
from hub.rules.placement import Place
from hub.rules.presence import Presence, PresenceState
from hub.store.workers import WorkerRow, save_worker
from hub.welcome import welcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set as AbstractSet

    from broker.link import Incoming
    from broker.topics import Heartbeat, Status
    from hub.store.ledger import Ledger
    from hub.wire import Wire

TICK_SECONDS = 1.0
DEFAULT_SESSION_EXPIRY_SECONDS = 3600

log = get_logger(__name__)


@dataclass(slots=True)
class Worker:
    """One worker as the hub knows it.

    Attributes:
        place: The worker as placement sees it.
        unsynced: Its last hello, while not all of its journal, as it was then, is committed.
        synced_session: The last session of which it is.

    """

    id: str
    site: str
    place: Place
    presence: Presence = field(default_factory=Presence)
    birth: Birth | None = None
    heartbeat: HeartbeatMessage | None = None
    unsynced: Birth | None = None
    synced_session: str | None = None

    @property
    def row(self) -> WorkerRow:
        """What is kept of it."""
        return WorkerRow(self.id, self.site, self.presence, self.birth, self.heartbeat)


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker holds, each a task and an attempt."""

    worker: str
    held: frozenset[tuple[str, int]]


class Fleet:
    """The workers, kept up to date by what they publish and by their silence.

    Args:
        ledger: Keeps what is known over restarts.
        wire: Answers hellos.

    """

    def __init__(self, ledger: Ledger, wire: Wire) -> None:
        self._ledger = ledger
        self._wire = wire
        self._on_change: Callable[[], None] = lambda: None
        self._on_hello: Callable[[Hello], None] = lambda _: None
        self._on_synced: Callable[[str], None] = lambda _: None
        self._workers: dict[str, Worker] = {}
        self._kinds = set(BUILT_IN_KINDS)

    def load(self, rows: Iterable[WorkerRow]) -> None:
        """Take up what an earlier hub knew. Who was online then may not be now: judgement is held."""
        now = now_ms()
        for row in rows:
            place = Place(row.id, row.site, online=False, slots=1, kinds=frozenset(), capabilities={})
            worker = Worker(row.id, row.site, place, rules.on_link_lost(row.presence, now), row.birth, row.heartbeat)
            self._workers[row.id] = worker
            self._refresh_place(worker)

    def listen(
        self, *, on_change: Callable[[], None], on_hello: Callable[[Hello], None], on_synced: Callable[[str], None]
    ) -> None:
        """Say who is told what.

        Args:
            on_change: A worker comes, goes, or can do other things now.
            on_hello: A worker says what it holds.
            on_synced: A worker's journal, as it was at its last hello, is committed.

        """
        self._on_change = on_change
        self._on_hello = on_hello
        self._on_synced = on_synced

    def get(self, worker: str) -> Worker | None:
        """Return a worker that the hub knows."""
        return self._workers.get(worker)

    def all(self) -> list[Worker]:
        """Return every worker, by site and name."""
        return sorted(self._workers.values(), key=lambda worker: (worker.site, worker.id))

    def places(self) -> list[Place]:
        """Return every worker as placement sees it."""
        return [worker.place for worker in self._workers.values()]

    def witnesses(self) -> list[Witness]:
        """Return every worker as adoption sees it."""
        return [
            Witness(
                one.id,
                one.site,
                one.presence,
                1000 * (one.birth.session_expiry_seconds if one.birth else DEFAULT_SESSION_EXPIRY_SECONDS),
            )
            for one in self._workers.values()
        ]

    def kinds(self) -> AbstractSet[str]:
        """Return every kind that is built in, or that some worker, there or not, has ever offered."""
        return self._kinds

    def synced_sessions(self) -> dict[str, str]:
        """Return the last synced session of each worker that has one."""
        return {one.id: one.synced_session for one in self._workers.values() if one.synced_session}

    # -- what workers publish --------------------------------------------------------------------------------------

    async def on_status(self, address: Status, incoming: Incoming) -> None:
        """Take a birth or a farewell; answer a birth with `Sync`."""
        try:
            status = STATUS.validate_json(incoming.payload)
        except ValidationError as error:
            self._complain(incoming, error)
            return
        worker = self._known(address.site, address.worker)
        if isinstance(status, Birth):
            await self._on_birth(worker, status, retained=incoming.retained)
        else:
            self._move(
                worker,
                rules.on_farewell(worker.presence, status.session, stopped=status.state == "stopped", now=now_ms()),
            )
            await self._save(worker)
        incoming.ack()

    async def on_heartbeat(self, address: Heartbeat, incoming: Incoming) -> None:
        """Take a worker's load."""
        try:
            heartbeat = HeartbeatMessage.model_validate_json(incoming.payload)
        except ValidationError as error:
            self._complain(incoming, error)
            return
        worker = self._known(address.site, address.worker)
        worker.heartbeat = heartbeat
        self._move(
            worker,
            rules.on_heartbeat(worker.presence, heartbeat.session, retained=incoming.retained, now=now_ms()),
        )
        await self._save(worker)
        incoming.ack()

    def on_committed(self, worker_id: str, stream: str, through: int) -> None:
        """Note how far a worker's journal is committed: once its hello's last event is, the session has synced."""
        worker = self._workers.get(worker_id)
        hello = worker.unsynced if worker else None
        if worker is None or hello is None or hello.journal.stream != stream or through < hello.journal.newest:
            return
        worker.unsynced, worker.synced_session = None, hello.session
        self._on_synced(worker_id)

    # -- silence -----------------------------------------------------------------------------------------------------

    def on_link_lost(self) -> None:
        """Hold judgement on everybody: the hub's own link went."""
        for worker in self._workers.values():
            self._move(worker, rules.on_link_lost(worker.presence, now_ms()))

    def on_link_up(self) -> None:
        """Begin to count silence anew."""
        for worker in self._workers.values():
            worker.presence = rules.on_link_up(worker.presence, now_ms())

    async def watch_silence(self) -> None:
        """Judge silence once a second, while the hub has a link."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._wire.connected.is_set():
                for worker in list(self._workers.values()):
                    before = worker.presence
                    self._move(worker, rules.on_tick(before, now_ms()))
                    if worker.presence is not before:
                        await self._save_judgement(worker)

    async def _save_judgement(self, worker: Worker) -> None:
        try:
            await self._save(worker)
        except SQLAlchemyError as error:  # it holds in memory, and is kept with the next word from or about the worker
            log.error("judgement_not_kept", worker=worker.id, error=str(error))  # noqa: TRY400

    # -- within ------------------------------------------------------------------------------------------------------

    def _known(self, site: str, worker_id: str) -> Worker:
        worker = self._workers.get(worker_id)
        if worker is None:
            place = Place(worker_id, site, online=False, slots=1, kinds=frozenset(), capabilities={})
            worker = self._workers[worker_id] = Worker(worker_id, site, place)
        elif worker.site != site:
            log.warning("worker_moved", worker=worker_id, from_site=worker.site, to_site=site)
            worker.site = site
        return worker

    async def _on_birth(self, worker: Worker, birth: Birth, *, retained: bool) -> None:
        interval_ms = int(birth.heartbeat_interval_seconds * 1000)
        presence = rules.on_birth(worker.presence, birth.session, interval_ms, retained=retained, now=now_ms())
        worker.birth = birth
        self._move(worker, presence)
        if retained:  # no hello: it was said long ago, and another follows when the worker hears that we are here
            await self._save(worker)
            return
        worker.unsynced = birth
        self._on_hello(Hello(worker.id, frozenset((ref.task, ref.attempt) for ref in birth.held)))
        answer = await self._ledger.commit(partial(welcome, worker=worker.row, birth=birth))
        self._wire.send(Control(worker.site, worker.id), encode(answer))
        self.on_committed(worker.id, birth.journal.stream, answer.committed_through)

    def _move(self, worker: Worker, presence: Presence) -> None:
        before, worker.presence = worker.presence, presence
        place = replace(worker.place)
        self._refresh_place(worker)
        if worker.place != place or (before.state, before.reason) != (presence.state, presence.reason):
            self._on_change()
        if (before.state, before.reason) != (presence.state, presence.reason):
            log.info(
                "worker",
                worker=worker.id,
                site=worker.site,
                state=presence.state.value,
                reason=presence.reason and presence.reason.value,
            )

    def _refresh_place(self, worker: Worker) -> None:
        place, birth = worker.place, worker.birth
        place.site = worker.site
        place.online = worker.presence.state is PresenceState.ONLINE
        place.session = worker.presence.session or ""
        if birth:
            place.slots, place.kinds, place.capabilities = (
                birth.slots,
                frozenset(birth.kinds),
                birth.capabilities,
            )
            self._kinds |= place.kinds

    async def _save(self, worker: Worker) -> None:
        await self._ledger.commit(partial(save_worker, worker=worker.row))

    def _complain(self, incoming: Incoming, error: ValidationError) -> None:
        log.warning("message_not_understood", topic=incoming.topic, problem=str(error.errors(include_url=False)[:1]))
        incoming.ack()
