"""A hub, as values: its database, and the process that runs on it.

What it decides is the product's (`hub.rules`); how it strings the decisions together follows `hub.fleet`, `hub.dispatch`,
`hub.inbound` and `hub.submission`, one method for each of their steps.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from broker.messages import (
    BUILT_IN_KINDS,
    Assignment,
    Batch,
    Birth,
    Cancel,
    Farewell,
    HeartbeatMessage,
    HubStatusMessage,
    Receipt,
    Renew,
    Sync,
    TaskRef,
    TaskRequest,
    Via,
)
from broker.reading import read_site_tasks, read_worker_tasks
from broker.topics import Control, Events, Heartbeat, HubStatus, SiteTasks, Status, WorkerTasks
from hub.rules import life, placement, presence as presences, reading
from hub.rules.batches import fresh
from hub.rules.adoption import Adopt, Leave, Watch, Witness, who_answers
from hub.rules.leases import Lease
from hub.rules.placement import Place
from hub.rules.presence import Presence, PresenceState
from hub.rules.task import ENDED, HELD, VIA_HTTP, Attempt, AttemptState, Case, TaskState, new_task
from hub.rules.waiting import Due, Waiting, shape_of
from tests.model.broker import HUB, Letter
from tests.model.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from broker.messages import TaskSpec
    from hub.rules.placement import Shape
    from hub.rules.reading import Reading, Source
    from hub.rules.task import Drop, Task
    from tests.model.broker import Delivery, Line
    from tests.model.world import World

ACCEPT_TIMEOUT_MS = 10_000
LOST_AFTER_MS = 90_000
MAX_PLACED = 500
FROZE_MS = 2_000

Change = tuple["Task | None", "Task"]


@dataclass(slots=True)
class Record:
    """A worker, as the database has it."""

    site: str
    presence: Presence
    birth: Birth | None


@dataclass(slots=True)
class Database:
    """All that outlives a crash of the hub. Cases are never changed in place, so a copy is a snapshot."""

    cases: dict[str, Case] = field(default_factory=dict)
    marks: dict[tuple[str, str], int] = field(default_factory=dict)
    workers: dict[str, Record] = field(default_factory=dict)
    gaps: list[tuple[str, str]] = field(default_factory=list)

    def copy(self) -> Database:
        return Database(dict(self.cases), dict(self.marks), dict(self.workers), list(self.gaps))

    def save(self, after: Mapping[str, Case]) -> list[Change]:
        """Keep cases; return the tasks that changed."""
        changes: list[Change] = []
        for task_id, case in after.items():
            before = self.cases.get(task_id)
            if before is None or before.task is not case.task:
                changes.append((before.task if before else None, case.task))
            self.cases[task_id] = case
        return changes


@dataclass(slots=True)
class Known:
    """A worker, as the process has it."""

    name: str
    site: str
    place: Place
    presence: Presence = field(default_factory=Presence)
    birth: Birth | None = None
    shown: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What a worker's word will prove once its journal is committed up to `newest`."""

    stream: str
    newest: int
    missing: tuple[Lease, ...]
    intake: str | None


class Hub:
    """One run of the hub: everything here is gone with a crash."""

    def __init__(self, world: World, database: Database) -> None:
        self.world = world
        self.db = database
        self.writer = Writer()
        self.line: Line | None = None
        self.frozen = False
        self._session = ""
        self._away = True
        self.waiting = Waiting(ACCEPT_TIMEOUT_MS)
        self.known: dict[str, Known] = {}
        self._proofs: defaultdict[str, list[Proof]] = defaultdict(list)
        self._declined: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._given_up: list[tuple[Lease, str]] = []
        self._renewed_at: dict[str, int] = {}
        self._link_up_ms = world.now
        self._ticked_ms = world.now
        self._turn = 0
        self._kinds = set(BUILT_IN_KINDS)
        self.awake = True
        self._load()

    def _load(self) -> None:
        now = self.world.now
        for name, record in self.db.workers.items():
            place = Place(name, record.site, online=False, slots=1, kinds=frozenset(), capabilities={})
            presence = presences.on_link_lost(record.presence, now)
            self.known[name] = Known(name, record.site, place, presence, record.birth)
            self._refresh(self.known[name])
        for case in self.db.cases.values():
            if case.task.state not in ENDED:
                self.waiting.put(case.task, now)
                self._recount(case.task.worker)

    # -- the link --------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        broker = self.world.broker
        self._session = self.world.new_id("hub")
        will = Letter(HubStatus(), HubStatusMessage(state="offline", session=self._session), retain=True)
        self.line = broker.connect(HUB, will=will)
        self._away = True
        broker.subscribe_to_all_sites(self.line)
        broker.subscribe(self.line, HubStatus())
        self.line.publish(HubStatus(), HubStatusMessage(state="online", session=self._session), retain=True)
        for one in self.known.values():
            one.presence = presences.on_link_up(one.presence, self.world.now)
        self._link_up_ms = self.world.now
        self.awake = True

    def on_link_down(self) -> None:
        self.line = None
        for one in self.known.values():
            self._move(one, presences.on_link_lost(one.presence, self.world.now))

    def _control(self, worker: str, order: object) -> None:
        one = self.known.get(worker)
        if one and self.line is not None:
            self.line.publish(Control(one.site, worker), order)

    # -- what comes ------------------------------------------------------------------------------------------------------

    def receive(self, line: Line, delivery: Delivery) -> None:
        def ack() -> None:
            line.acknowledge(delivery)

        letter = delivery.letter
        match letter.address, letter.body:
            case SiteTasks() | WorkerTasks() as address, bytes() as payload:
                self._on_tasks(address, payload, ack)
            case Events(site, worker), Batch() as batch:
                self._on_batch(site, worker, batch, ack)
            case Status(site, worker), Birth() | Farewell() as status:
                self._on_status(self._known(site, worker), status, ack, retained=letter.retained)
            case Heartbeat(site, worker), HeartbeatMessage() as heartbeat:
                self._on_heartbeat(self._known(site, worker), heartbeat, ack, retained=letter.retained)
            case HubStatus(), HubStatusMessage(session=session):
                self._away = self._away and session != self._session
                ack()
            case other:
                raise AssertionError(other)

    # -- tasks in --------------------------------------------------------------------------------------------------------

    def post(self, task_id: str, spec: TaskSpec, site: str | None, pinned: str | None) -> None:
        """Take a task by HTTP."""
        task = new_task(spec, task_id, via=VIA_HTTP, site=site, pinned=pinned, now=self.world.now)
        self.writer.ask(partial(self._write_submitted, [task]), self._publish)

    def _write_submitted(self, tasks: Iterable[Task]) -> list[Change]:
        fresh = {task.id: Case(task) for task in tasks if task.id not in self.db.cases}
        return self._save(fresh)

    def _on_tasks(self, address: SiteTasks | WorkerTasks, payload: bytes, ack: Callable[[], None]) -> None:
        read = read_worker_tasks(payload) if isinstance(address, WorkerTasks) else read_site_tasks(payload)
        witnesses = [Witness(one.name, one.site, one.presence, 3_600_000) for one in self.known.values()]
        tasks = []
        for request in read:
            if isinstance(request, Assignment) or not isinstance(request, TaskRequest):
                raise TypeError(request)
            answer = who_answers(
                address, witnesses, has_id=request.id is not None, away=self._away, now=self.world.now
            )
            if not isinstance(answer, Leave):
                tasks.append(self._injected(address, request, answer))

        def done(changes: list[Change]) -> None:
            ack()
            self._publish(changes)

        self.writer.ask(partial(self._write_submitted, tasks), done)

    def _injected(self, address: SiteTasks | WorkerTasks, request: TaskRequest, answer: Adopt | Watch) -> Task:
        pinned = address.worker if isinstance(address, WorkerTasks) else None
        task = new_task(
            request.spec(),
            request.id or self.world.new_id("task"),
            via=Via.WORKER if pinned else Via.SITE,
            site=address.site,
            pinned=pinned,
            now=self.world.now,
        )
        if isinstance(answer, Adopt):
            return task
        offered = {name: self._where(name) for name in answer.candidates}
        return task._replace(attempt=1, offered_to=offered)  # type: ignore[arg-type]

    def _where(self, worker: str) -> list[str]:
        birth = self.known[worker].birth
        return [birth.intake, birth.journal.stream] if birth else ["", ""]

    # -- batches in ------------------------------------------------------------------------------------------------------

    def _on_batch(self, site: str, worker: str, batch: Batch, ack: Callable[[], None]) -> None:
        if self.world.mutant.receipt_before_commit:
            self._control(worker, Receipt(stream=batch.stream, through=batch.last))

        source = reading.Source(site, worker, self._kinds, birth=self._known(site, worker).birth)

        def done(result: tuple[int, list[Change], Reading | None]) -> None:
            through, changes, found = result
            ack()
            self._control(worker, Receipt(stream=batch.stream, through=through))
            if found is not None:
                one = self.known[worker]
                for task in found.declined:
                    self._declined[task][worker] = one.place.session
                self._publish(changes)
                self._drop(found.drops)
            self._on_committed(worker, batch.stream, through)

        self.writer.ask(partial(self._write_batch, source, batch), done)

    def _write_batch(self, source: Source, batch: Batch) -> tuple[int, list[Change], Reading | None]:
        mark = source.worker, batch.stream
        through = self.db.marks.get(mark, 0)
        events = fresh(batch, through)
        if not events:
            return through, [], None
        cases = {task: self.db.cases[task] for task in reading.tasks_of(events) if task in self.db.cases}
        found = reading.read(events, source, cases, None, self.world.now)
        self.world.on_applied(*mark, events)
        self.db.marks[mark] = batch.last
        return batch.last, self._save({k: v for k, v in found.cases.items() if cases.get(k) is not v}), found

    # -- hello -----------------------------------------------------------------------------------------------------------

    def _on_status(
        self, one: Known, status: Birth | Farewell, ack: Callable[[], None], *, retained: bool
    ) -> None:
        now = self.world.now
        if isinstance(status, Farewell):
            stopped = status.state == "stopped"
            self._move(one, presences.on_farewell(one.presence, status.session, stopped=stopped, now=now))
            self._keep(one, ack)
            return
        interval_ms = int(status.heartbeat_interval_seconds * 1000)
        one.birth = status
        self._move(one, presences.on_birth(one.presence, status.session, interval_ms, retained=retained, now=now))
        if retained:
            self._keep(one, ack)
            return
        one.shown = None  # what an older hello proved is older than what it may be asked about now
        held = {(ref.task, ref.attempt) for ref in status.held}
        missing = [
            lease
            for lease in self.waiting.leases.of(one.name)
            if lease.accepted and (lease.task, lease.attempt) not in held
        ]
        journal = status.journal
        self._proofs[one.name].append(Proof(journal.stream, journal.newest, tuple(missing), status.intake))

        def done(result: tuple[Sync, list[Change]]) -> None:
            sync, changes = result
            self._publish(changes)
            self._control(one.name, sync)
            ack()
            self._on_committed(one.name, sync.stream, sync.committed_through)

        self.writer.ask(partial(self._write_welcome, one, status), done)

    def _write_welcome(self, one: Known, birth: Birth) -> tuple[Sync, list[Change]]:
        self._write_record(one)
        journal = birth.journal
        streams = {stream for worker, stream in self.db.marks if worker == one.name}
        anew = bool(streams) and journal.stream not in streams
        through = self.db.marks.get((one.name, journal.stream), 0)
        if through < journal.settled:
            self.db.gaps.append((one.name, f"this database has lost {journal.settled - through} events"))
            through = journal.settled
        if anew:
            self.db.gaps.append((one.name, "a new journal"))
        self.db.marks[one.name, journal.stream] = through
        held = {(ref.task, ref.attempt) for ref in birth.held}
        after: dict[str, Case] = {}
        drop: list[TaskRef] = []
        for ref in birth.held:
            case = self.db.cases.get(ref.task)
            if case is not None:
                taken_back = _take_back(case, ref, one.name)
                if taken_back is None:
                    drop.append(ref)
                elif taken_back is not case:
                    after[ref.task] = taken_back
        send: list[Assignment] = []
        for case in self.db.cases.values():
            task = case.task
            lost = case.attempts.get((task.attempt, one.name))
            if (
                task.state is TaskState.UNKNOWN
                and not anew
                and lost is not None
                and lost.accepted_ms is None
                and (task.id, task.attempt) not in held
            ):  # it may still be on its way there, so it stays there
                task = task._replace(state=TaskState.ASSIGNED, worker=one.name, reason=None)
                lost = lost._replace(state=AttemptState.ASSIGNED, error=None)
                after[task.id] = Case(task, {**case.attempts, (lost.number, one.name): lost})
            if task.worker != one.name or task.state not in HELD or (task.id, task.attempt) in held:
                continue
            if anew and self.world.mutant.new_stream_rule:
                after[task.id] = life.on_lost(case, task.attempt, f"{one.name} came back with a new journal", self.world.now)
            elif task.state is TaskState.ASSIGNED:
                send.append(_assignment(task))
        sync = Sync(
            session=birth.session,
            stream=journal.stream,
            committed_through=through,
            drop=tuple(drop),
            send=tuple(send),
        )
        return sync, self._save(after)

    def _on_heartbeat(
        self, one: Known, heartbeat: HeartbeatMessage, ack: Callable[[], None], *, retained: bool
    ) -> None:
        presence = presences.on_heartbeat(
            one.presence, heartbeat.session, retained=retained, now=self.world.now
        )
        self._move(one, presence)
        if not retained and heartbeat.held is not None and heartbeat.position is not None:
            held = {(ref.task, ref.attempt) for ref in heartbeat.held}
            leases = self.waiting.leases.of(one.name)
            for lease in leases:
                if not lease.accepted and (lease.task, lease.attempt) in held:
                    self.waiting.leases.hold(replace(lease, assigned_ms=self.world.now))
            missing = tuple(one for one in leases if one.accepted and (one.task, one.attempt) not in held)
            position = heartbeat.position
            if missing:
                self._proofs[one.name].append(Proof(position.stream, position.newest, missing, None))
                self._on_committed(one.name, position.stream, self.db.marks.get((one.name, position.stream), 0))
        self._keep(one, ack)

    def _on_committed(self, worker: str, stream: str, through: int) -> None:
        """Take what a worker's words prove, now that all that they rest on is committed."""
        proofs = self._proofs[worker]
        ripe = [proof for proof in proofs if proof.stream == stream and proof.newest <= through]
        self._proofs[worker] = [proof for proof in proofs if proof not in ripe]
        leased = {(lease.task, lease.attempt) for lease in self.waiting.leases.of(worker)}
        for proof in ripe:
            for lease in proof.missing:
                if (lease.task, lease.attempt) in leased:
                    self._given_up.append((lease, f"{worker} came back without it"))
            if proof.intake is not None:
                self.known[worker].shown = (proof.intake, proof.stream)

    def _keep(self, one: Known, ack: Callable[[], None]) -> None:
        self.writer.ask(partial(self._write_record, one), lambda _: ack())

    def _write_record(self, one: Known) -> None:
        self.db.workers[one.name] = Record(one.site, one.presence, one.birth)

    # -- tasks out -------------------------------------------------------------------------------------------------------

    @property
    def can_place(self) -> bool:
        return self.awake and self.line is not None and not self.frozen

    def place_some(self) -> None:
        self.awake = False
        placed = placement.place(
            self.waiting.backlog, self._candidates, limit=MAX_PLACED, turn=self._turn, excluded=self._is_excluded
        )
        if not placed:
            return
        self._turn += len(placed)

        def write() -> tuple[list[Change], list[Task]]:
            after = {}
            for one in placed:
                case = self.db.cases[one.task]
                if case.task.state is TaskState.PENDING:
                    after[one.task] = life.assign(case, one.worker, self.world.now)
            return self._save(after), [case.task for case in after.values()]

        def done(result: tuple[list[Change], list[Task]]) -> None:
            changes, sent = result
            self._publish(changes)
            self._send(sent)

        self.writer.ask(write, done)

    def tick(self) -> None:
        """Look after deadlines and silence."""
        now = self.world.now
        stood_still = now - self._ticked_ms > FROZE_MS
        self._ticked_ms = now
        if stood_still:
            self._on_stood_still(now)
        if self.line is not None:
            for one in self.known.values():
                before = one.presence
                self._move(one, presences.on_tick(before, now))
                if one.presence is not before:
                    self.writer.ask(partial(self._write_record, one))
        self._judge(now)

    def _on_stood_still(self, now: int) -> None:
        self._link_up_ms = now
        for one in self.known.values():
            one.presence = replace(one.presence, waiting_since_ms=now)
        self.waiting.due(now)

    def _judge(self, now: int) -> None:
        due = self.waiting.due(now)
        self.awake = self.awake or bool(due.tried_again)
        if self.line is None:
            due = Due(expired=due.expired)
        rules: dict[str, life.Rule] = {
            task.id: partial(life.on_expired, now=now, why="it waited") for task in due.expired
        }
        for offer in due.offers:
            rule = self._judge_offer(offer.task, now)
            if rule is not None:
                rules[offer.task.id] = rule
        given_up, self._given_up = self._given_up, []
        for lease in due.unaccepted:
            rules[lease.task] = partial(life.on_unaccepted, number=lease.attempt, why="did not accept it", now=now)
        for lease, why in (*given_up, *self._held_by_lost_workers(now)):
            rules[lease.task] = partial(life.on_lost, number=lease.attempt, why=why, now=now)
        if rules:
            self.writer.ask(partial(self._write_moves, rules), self._publish)
        again = [lease.task for lease in due.unaccepted if not lease.idempotent]
        if again:
            self.writer.ask(partial(self._read_again, again), self._send)

    def _write_moves(self, rules: Mapping[str, life.Rule]) -> list[Change]:
        return self._save({task: rule(self.db.cases[task]) for task, rule in rules.items()})

    def _read_again(self, tasks: Iterable[str]) -> list[Task]:
        cases = [self.db.cases[task] for task in tasks]
        return [case.task for case in cases if case.task.state is TaskState.ASSIGNED]

    def _judge_offer(self, task: Task, now: int) -> life.Rule | None:
        """Decide what becomes of a task that no worker has accepted in time."""
        pinned = self.known.get(task.pinned) if task.pinned else None
        if pinned is not None and not pinned.place.online:
            return None
        if task.idempotent:
            return _withdraw
        waits_for = []
        for worker, (intake, stream) in (task.offered_to or {}).items():  # type: ignore[misc]
            one = self.known.get(worker)
            shown = one.shown if one else None
            if shown is None or shown[0] == intake:
                waits_for.append(worker)
            elif stream and shown[1] != stream:
                return partial(_unknown_offer, why=f"{worker} may have had it, and came back with a new journal")
        for worker in waits_for:
            if self.known[worker].place.online and now - self._renewed_at.get(worker, -ACCEPT_TIMEOUT_MS) >= ACCEPT_TIMEOUT_MS:
                self._renewed_at[worker] = now
                self._control(worker, Renew())
        return None if waits_for else _withdraw

    def _held_by_lost_workers(self, now: int) -> list[tuple[Lease, str]]:
        return [
            (lease, f"{one.name} is offline")
            for one in self.known.values()
            if one.presence.state is PresenceState.OFFLINE
            and now - max(one.presence.since_ms, self._link_up_ms) > LOST_AFTER_MS
            for lease in self.waiting.leases.of(one.name)
        ]

    def _send(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            one = self.known.get(task.worker or "")
            if one and self.line is not None:
                self.world.on_sent(task)
                body = b"[" + _assignment(task).model_dump_json(by_alias=True, exclude_none=True).encode() + b"]"
                self.line.publish(WorkerTasks(one.site, one.name), body)

    def _drop(self, drops: Iterable[Drop]) -> None:
        for drop in drops:
            self._control(drop.worker, Cancel(task=drop.task, attempt=drop.attempt, reason=drop.reason))

    # -- within ----------------------------------------------------------------------------------------------------------

    def _save(self, after: Mapping[str, Case]) -> list[Change]:
        changes = self.db.save(after)
        self.world.on_committed(changes)
        return changes

    def _publish(self, changes: Iterable[Change]) -> None:
        now = self.world.now
        for before, after in changes:
            self.waiting.take_out(after.id)
            self.waiting.put(after, now)
            self._recount(before.worker if before else None)
            self._recount(after.worker)
        self.awake = True

    def _known(self, site: str, worker: str) -> Known:
        if worker not in self.known:
            place = Place(worker, site, online=False, slots=1, kinds=frozenset(), capabilities={})
            self.known[worker] = Known(worker, site, place)
        return self.known[worker]

    def _move(self, one: Known, presence: Presence) -> None:
        one.presence = presence
        self._refresh(one)
        self.awake = True

    def _refresh(self, one: Known) -> None:
        place = one.place
        place.online = one.presence.state is PresenceState.ONLINE
        place.session = one.presence.session or ""
        if one.birth:
            place.slots, place.kinds = one.birth.slots, frozenset(one.birth.kinds)
            self._kinds |= place.kinds

    def _recount(self, worker: str | None) -> None:
        if worker and worker in self.known:
            self.known[worker].place.in_flight = self.waiting.leases.count(worker)

    def _candidates(self, shape: Shape) -> list[Place]:
        return [one.place for one in self.known.values() if one.place.online and placement.fits(shape, one.place)]

    def _is_excluded(self, task: str, place: Place) -> bool:
        return self._declined.get(task, {}).get(place.worker) == place.session


def _withdraw(case: Case) -> Case:
    if case.task.state is not TaskState.PENDING or case.task.offered_to is None:
        return case
    return Case(case.task._replace(offered_to=None), case.attempts)


def _unknown_offer(case: Case, why: str) -> Case:
    if case.task.state is not TaskState.PENDING or case.task.offered_to is None:
        return case
    return Case(case.task._replace(state=TaskState.UNKNOWN, reason=why, offered_to=None), case.attempts)


def _assignment(task: Task) -> Assignment:
    from broker.messages import TaskSpec

    spec = TaskSpec.model_validate_json(task.spec)
    return Assignment(id=task.id, attempt=task.attempt, **{name: getattr(spec, name) for name in TaskSpec.model_fields})


def _take_back(case: Case, ref: TaskRef, worker: str) -> Case | None:
    """Return the case with a held attempt back at its worker; None if that must stop."""
    task = case.task
    if task.state in ENDED or ref.attempt < task.attempt:
        return None
    lost = task.state is TaskState.UNKNOWN or (task.state is TaskState.PENDING and task.attempt == ref.attempt)
    attempt = case.attempts.get((ref.attempt, worker))
    if task.state is TaskState.UNKNOWN and attempt is None:
        attempt = Attempt(ref.attempt, worker, AttemptState.ACCEPTED)
    if lost and attempt is not None and attempt.state in {AttemptState.LOST, AttemptState.ACCEPTED, AttemptState.RUNNING}:
        back = task._replace(
            state=TaskState.RUNNING, worker=worker, attempt=ref.attempt, reason=None, not_before_ms=None, offered_to=None
        )
        attempt = attempt._replace(state=AttemptState.RUNNING, error=None)
        return Case(back, {**case.attempts, (ref.attempt, worker): attempt})
    return case if task.worker in (None, worker) else None
