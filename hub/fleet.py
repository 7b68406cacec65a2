"""Every worker that the hub knows: whether it is there, what it can do, and how its journal and its clock stand."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import BUILT_IN_KINDS, STATUS, Birth, HeartbeatMessage, JournalPosition
from hub.rules import clocks, presence as rules
from hub.rules.adoption import Witness
from hub.rules.offers import opening_of
from hub.rules.placement import Place
from hub.rules.presence import Presence, PresenceState
from hub.rules.reading import Source
from hub.rules.sites import shown_anew
from hub.store.workers import WorkerRow, save_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set as AbstractSet

    from broker.link import Incoming
    from broker.messages import Farewell, TaskRef
    from broker.topics import Heartbeat, Status
    from hub.greeting import Greeting
    from hub.rules.clocks import Clocks
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
        clocks: What is known of the clocks of its last boots.
        marks: How far its streams are committed, as far as this hub has heard since it began.
        unsynced: Its last hello, while not all of its journal, as it was then, is committed.
        synced: Its last hello of which all is.
        checking: How its journal stood when it said what it holds, while not all of that is committed.

    """

    id: str
    site: str
    place: Place
    presence: Presence = field(default_factory=Presence)
    birth: Birth | None = None
    heartbeat: HeartbeatMessage | None = None
    clocks: Clocks = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    unsynced: Birth | None = None
    synced: Birth | None = None
    checking: JournalPosition | None = None

    @property
    def row(self) -> WorkerRow:
        """What is kept of it."""
        return WorkerRow(self.id, self.site, self.presence, self.birth, self.heartbeat, self.clocks)

    @property
    def by_http(self) -> bool:
        """Whether it is connected by HTTP, and not by way of the broker."""
        return self.birth is not None and self.birth.transport == "http"

    def clock(self, now: int) -> tuple[int, int] | None:
        """Return what must be added to its clock, and the bound of the error, in milliseconds; None is not known."""
        return clocks.current(self.clocks, self.birth.boot if self.birth else None, now)

    @property
    def mark(self) -> tuple[str, int]:
        """The stream of its last hello, and how far that is committed; no stream where that is not known."""
        stream = self.birth.journal.stream if self.birth else ""
        return (stream, self.marks[stream]) if stream in self.marks else ("", 0)

    def has_committed(self, journal: JournalPosition) -> bool:
        """Tell whether all of its journal, as it was then, is committed."""
        return self.marks.get(journal.stream, -1) >= journal.newest


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker holds, each a task and an attempt, and how its journal stood then."""

    worker: str
    held: frozenset[tuple[str, int]]
    journal: JournalPosition
    is_birth: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told what.

    Attributes:
        on_change: A worker comes, goes, or can do other things now.
        on_hello: A worker says what it holds, in a hello or later; `on_synced` follows.
        on_synced: All of a worker's journal, as it was when it said what it holds, is committed.
        on_heartbeat: A worker says what it holds in a heartbeat: it answers for that.

    """

    on_change: Callable[[], None]
    on_hello: Callable[[Hello], None]
    on_synced: Callable[[str], None]
    on_heartbeat: Callable[[Hello], None] = lambda _: None


class Fleet:
    """The workers, kept up to date by what they publish and by their silence.

    Args:
        ledger: Keeps what is known over restarts.
        wire: Is told how to reach whom.
        greeting: Answers hellos.

    """

    def __init__(self, ledger: Ledger, wire: Wire, greeting: Greeting) -> None:
        self._ledger = ledger
        self._wire = wire
        self._greeting = greeting
        self._tell = Listeners(on_change=lambda: None, on_hello=lambda _: None, on_synced=lambda _: None)
        self._workers: dict[str, Worker] = {}
        self._of_site: defaultdict[str, dict[str, Worker]] = defaultdict(dict)
        self._there: Counter[str] = Counter()  # of each site, who is not offline
        self._kinds = set(BUILT_IN_KINDS)

    def load(self, rows: Iterable[WorkerRow]) -> None:
        """Take up what an earlier hub knew. Who was online then may not be now: judgement is held."""
        now = now_ms()
        for row in rows:
            worker = self._add(row.id, row.site)
            worker.birth, worker.heartbeat, worker.clocks = row.birth, row.heartbeat, row.clocks
            worker.presence = rules.on_frozen(rules.on_link_lost(row.presence, now), now)
            self._there[row.site] += worker.presence.state is not PresenceState.OFFLINE
            self._wire.reach(row.id, by_http=worker.by_http)
            self._refresh_place(worker)

    def listen(self, listeners: Listeners) -> None:
        """Say who is told what."""
        self._tell = listeners

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
                intake=opening_of(one.birth).intake if one.birth else "",
                stream=one.birth.journal.stream if one.birth else "",
                by_http=one.by_http,
            )
            for one in self._workers.values()
        ]

    def kinds(self) -> AbstractSet[str]:
        """Return every kind that is built in, or that some worker, there or not, has ever offered."""
        return self._kinds

    def source(self, site: str, worker_id: str) -> Source:
        """Return what is needed to read a worker's events, as it is known at this moment."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return Source(site, worker_id, self._kinds)
        return Source(site, worker_id, self._kinds, worker.clocks, worker.birth)

    # -- what workers publish --------------------------------------------------------------------------------------

    async def on_status(self, address: Status, incoming: Incoming) -> None:
        """Take a birth or a farewell; answer a birth with `Sync`. What is said holds before this first waits."""
        received_at = now_ms()
        try:
            status = STATUS.validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        if isinstance(status, Birth) and not incoming.retained:
            await self._on_hello(self._at_home(address.site, address.worker), status, received_at)
        else:
            worker = self._known(address, retained=incoming.retained)
            if worker:
                self._on_other_status(worker, status, retained=incoming.retained, now=received_at)
                await self._save(worker)
        incoming.ack()

    async def on_heartbeat(self, address: Heartbeat, incoming: Incoming) -> None:
        """Take a worker's load, its clock, and what it holds, before this first waits."""
        try:
            heartbeat = HeartbeatMessage.model_validate_json(incoming.payload)
        except ValidationError as error:
            _complain(incoming, error)
            return
        worker = self._known(address, retained=incoming.retained)
        if worker and not (incoming.retained and worker.heartbeat):  # what a broker repeats is no news
            self._take_heartbeat(worker, heartbeat, retained=incoming.retained)
            await self._save(worker)
        incoming.ack()

    def on_committed(self, worker_id: str, stream: str, through: int) -> None:
        """Note how far a worker's journal is committed."""
        worker = self._workers.get(worker_id)
        if worker:
            worker.marks[stream] = through
            self._greeting.on_committed(worker_id, stream, through)
            self._look_for_sync(worker)

    # -- silence -----------------------------------------------------------------------------------------------------

    def on_link_lost(self) -> None:
        """Hold judgement on everybody whom the hub sees by its own link to the broker: that went."""
        self._move_all(lambda worker: rules.on_link_lost(worker.presence, now_ms()))

    def on_link_up(self) -> None:
        """Begin to count silence anew."""
        self._move_all(lambda worker: rules.on_link_up(worker.presence, now_ms()))

    async def watch_silence(self) -> None:
        """Judge silence once a second: of those whom the hub could have heard."""
        while True:
            before = now_ms()
            await asyncio.sleep(TICK_SECONDS)
            now = now_ms()
            if rules.was_frozen(before, now, int(TICK_SECONDS * 1000)):
                log.warning("hub_stood_still", seconds=(now - before) / 1000)
                for worker in self._workers.values():
                    worker.presence = rules.on_frozen(worker.presence, now)
            self._judge(now)
            self._greeting.tick(now)

    def _judge(self, now: int) -> None:
        changed = []
        for worker in list(self._workers.values()):
            if worker.by_http or self._wire.connected.is_set():
                before = worker.presence
                self._move(worker, rules.on_tick(before, now))
                if worker.presence is not before:
                    changed.append(worker)
        self._keep(changed)

    def _move_all(self, judge: Callable[[Worker], Presence]) -> None:
        for worker in self._workers.values():
            if not worker.by_http:
                self._move(worker, judge(worker))

    # -- within ------------------------------------------------------------------------------------------------------

    def _add(self, worker_id: str, site: str) -> Worker:
        place = Place(worker_id, site, online=False, slots=1, kinds=frozenset(), capabilities={})
        worker = self._workers[worker_id] = self._of_site[site][worker_id] = Worker(worker_id, site, place)
        return worker

    def _known(self, address: Status | Heartbeat, *, retained: bool) -> Worker | None:
        """Return the worker that speaks; None where that name is another's, at another site: who came last has it."""
        worker = self._workers.get(address.worker)
        if worker and worker.site != address.site:
            tell = log.info if retained else log.warning  # what it left behind where it once was is no surprise
            tell("worker_is_elsewhere", worker=worker.id, site=worker.site, ignored_site=address.site)
            return None
        return worker or self._add(address.worker, address.site)

    def _at_home(self, site: str, worker_id: str) -> Worker:
        """Return a worker that says hello, at the site where it says so."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return self._add(worker_id, site)
        if worker.site != site:
            log.warning("worker_moved", worker=worker_id, from_site=worker.site, to_site=site)
            there = worker.presence.state is not PresenceState.OFFLINE
            self._there[worker.site] -= there
            self._there[site] += there
            self._of_site[site][worker_id] = self._of_site[worker.site].pop(worker_id)
            worker.site = site
        return worker

    async def _on_hello(self, worker: Worker, birth: Birth, received_at: int) -> None:
        interval_ms = int(birth.heartbeat_interval_seconds * 1000)
        worker.birth = worker.unsynced = birth
        worker.checking = None
        self._wire.reach(worker.id, by_http=worker.by_http)
        self._move(worker, rules.on_birth(worker.presence, birth.session, interval_ms, retained=False, now=received_at))
        self._tell.on_hello(Hello(worker.id, _refs(birth.held), birth.journal, is_birth=True))
        through = await self._greeting.answer(worker, birth, received_at=received_at)
        if through is not None:
            worker.marks[birth.journal.stream] = through
            self._look_for_sync(worker)

    def _on_other_status(self, worker: Worker, status: Birth | Farewell, *, retained: bool, now: int) -> None:
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
        self._move(worker, presence)

    def _take_heartbeat(self, worker: Worker, heartbeat: HeartbeatMessage, *, retained: bool) -> None:
        if heartbeat.clock:
            worker.clocks = clocks.learn(worker.clocks, heartbeat.clock)
        now = now_ms()
        presence = rules.on_heartbeat(worker.presence, heartbeat.session, retained=retained, now=now)
        if worker.heartbeat is None or presence.session == heartbeat.session:
            worker.heartbeat = heartbeat
        self._move(worker, presence)
        is_current = not retained and presence.session == heartbeat.session
        if is_current and heartbeat.held is not None and heartbeat.position is not None:
            self._take_held(worker, heartbeat.held, heartbeat.position)

    def _take_held(self, worker: Worker, held: tuple[TaskRef, ...], position: JournalPosition) -> None:
        said = Hello(worker.id, _refs(held), position)
        self._tell.on_heartbeat(said)
        # One look at a time: a busy worker's journal has always grown when the next heartbeat comes.
        if worker.unsynced is None and worker.checking is None:
            worker.checking = position
            self._tell.on_hello(said)
            self._look_for_sync(worker)

    def _look_for_sync(self, worker: Worker) -> None:
        """Tell when all is committed that a worker's journal held when it said what it holds."""
        if worker.unsynced and worker.has_committed(worker.unsynced.journal):
            worker.unsynced, worker.synced = None, worker.unsynced
            self._tell.on_synced(worker.id)
        elif worker.checking and worker.has_committed(worker.checking):
            worker.checking = None
            self._tell.on_synced(worker.id)

    def _move(self, worker: Worker, presence: Presence) -> None:
        before, worker.presence = worker.presence, presence
        place = replace(worker.place)
        self._refresh_place(worker)
        moved = (before.state, before.reason) != (presence.state, presence.reason)
        if moved or worker.place != place:
            self._tell.on_change()
        if moved:
            log.info("worker", worker=worker.id, site=worker.site, state=presence.state, reason=presence.reason)
            self._count(worker, before)

    def _count(self, worker: Worker, before: Presence) -> None:
        """Follow who of a site is there: the last to go and the first to come back tell of the others too."""
        was, there = before.state is not PresenceState.OFFLINE, worker.presence.state is not PresenceState.OFFLINE
        if was == there:
            return
        self._there[worker.site] += there - was
        if not there:
            self._greeting.on_gone(worker.id)
        if self._there[worker.site] <= there:
            self._show_site_anew(worker.site)

    def _show_site_anew(self, site: str) -> None:
        workers = self._of_site[site]
        anew = shown_anew({name: one.presence for name, one in workers.items()})
        for name, presence in anew.items():
            workers[name].presence = presence
            log.info("worker", worker=name, site=site, state=presence.state, reason=presence.reason)
        if anew:
            self._tell.on_change()
            self._keep([workers[name] for name in anew])

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
        """Keep what is known of a worker. Where that fails it holds in memory, and is kept with the next word of it."""
        try:
            await self._ledger.commit(partial(save_workers, rows=[worker.row]))
        except SQLAlchemyError as error:
            log.error("worker_not_kept", worker=worker.id, error=str(error))  # noqa: TRY400

    def _keep(self, workers: list[Worker]) -> None:
        """Keep what is known of workers, and do not wait for it."""
        if workers:
            rows = [worker.row for worker in workers]
            self._ledger.submit(partial(save_workers, rows=rows)).add_done_callback(_report_failure)


def _refs(refs: Iterable[TaskRef]) -> frozenset[tuple[str, int]]:
    return frozenset((ref.task, ref.attempt) for ref in refs)


def _report_failure(future: asyncio.Future[None]) -> None:
    error = None if future.cancelled() else future.exception()
    if error:
        log.error("workers_not_kept", error=str(error))


def _complain(incoming: Incoming, error: ValidationError) -> None:
    log.warning("message_not_understood", topic=incoming.topic, problem=str(error.errors(include_url=False)[:1]))
    incoming.ack()
