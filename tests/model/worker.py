"""A worker, as values: its disk, and the process that runs on it.

What it decides is the product's (`edge_agent.rules`); how it strings the decisions together follows `edge_agent.session`,
`intake`, `runner`, `uplink` and `journal`, one method for each of their steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from broker.messages import (
    Batch,
    Birth,
    Cancel,
    ClockSample,
    Credit,
    Farewell,
    HeartbeatMessage,
    HubStatusMessage,
    JournalDepth,
    JournalPosition,
    Outcome,
    Receipt,
    Renew,
    Sync,
    TaskDeclined,
    TaskProgress,
    TaskRef,
    TaskStarted,
    Via,
    WorkerStarted,
)
from broker.topics import Control, Events, Heartbeat, HubStatus, SiteTasks, Status, WorkerTasks
from edge_agent.rules import admission, endings, flow as flows, handshake as handshakes
from edge_agent.rules.admission import Decline, Host, Message, Reject, Take
from edge_agent.rules.attempts import Ending, Held, Known, Ref
from edge_agent.rules.eviction import Class, class_of, cut
from edge_agent.rules.flow import Flow
from edge_agent.rules.handshake import Handshake
from edge_agent.rules.waiting import Waiting
from tests.model.broker import Letter
from tests.model.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from broker.messages import Event
    from edge_agent.rules.admission import Verdict
    from tests.model.broker import Delivery, Line
    from tests.model.world import World

HEARTBEAT_MS = 30_000
SESSION_EXPIRY_SECONDS = 3600
SLOTS = 2
QUEUE = 3
"""How many attempts may wait for a slot before a worker declines what another could take."""

BATCH_EVENTS = 3
"""Small, so that a schedule has several batches in flight."""


class AnyKind:
    """A kind of task that takes whatever it is given."""

    def problems(self, params: Mapping[str, object]) -> list[object]:
        del params
        return []

    def refusal(self, params: Mapping[str, object]) -> str | None:
        del params
        return None


ANY_KIND = AnyKind()


@dataclass(slots=True)
class Disk:
    """All that outlives a crash of the worker."""

    stream: str
    settled: int = 0
    newest: int = 0
    rows: dict[int, Event] = field(default_factory=dict)
    inbox: dict[Ref, Held] = field(default_factory=dict)
    ended: dict[str, Known] = field(default_factory=dict)

    def copy(self) -> Disk:
        return replace(self, rows=dict(self.rows), inbox=dict(self.inbox), ended=dict(self.ended))

    def append(self, events: Iterable[Event]) -> None:
        for event in events:
            self.newest += 1
            self.rows[self.newest] = event

    def settle(self, through: int) -> None:
        self.rows = {number: event for number, event in self.rows.items() if number > through}
        self.settled = max(self.settled, through)

    def known(self, tasks: Iterable[str]) -> dict[str, Known]:
        found = {task: self.ended[task] for task in tasks if task in self.ended}
        for held in self.inbox.values():
            task = held.ref.task
            if task in tasks and (task not in found or held.ref.attempt > found[task].attempt):
                found[task] = Known(held.ref.attempt, held.digest)
        return found

    def end(self, held: Held) -> None:
        self.inbox.pop(held.ref, None)
        before = self.ended.get(held.ref.task)
        if before is None or held.ref.attempt >= before.attempt:
            self.ended[held.ref.task] = Known(held.ref.attempt, held.digest)


@dataclass(slots=True)
class Running:
    """An attempt in a slot."""

    held: Held
    stopped: Ending | None = None


class Worker:
    """One run of the agent: everything here is gone with a crash."""

    def __init__(self, world: World, name: str, site: str, disk: Disk) -> None:
        self.world = world
        self.name = name
        self.site = site
        self.disk = disk
        self.kinds = world.kinds_of(name)
        self.boot = world.new_id("boot")
        self.writer = Writer()
        self.frozen = False
        self.stopping = False
        # the journal, as the loop knows it
        self.stream = disk.stream
        self.newest = disk.newest
        self.settled = disk.settled
        self._sent = disk.newest  # by this run or an older one, at most
        self._asked = disk.settled
        # the runner
        self.waiting = Waiting()
        self.running: dict[Ref, Running] = {}
        self.executing: set[Ref] = set()
        self.latest: dict[str, Ref] = {}
        # the session
        self.main: Line | None = None
        self.intake: Line | None = None
        self.session = ""
        self.intake_nonce = ""
        self.renewing = False
        self.reopening = False
        self.flow = Flow()
        self.handshake = Handshake()
        self._heard_birth = False
        self._clock: ClockSample | None = None
        self._hello_sent_at: dict[int, int] = {}
        self.beat_at: float = 0.0
        self._said_hello = False
        self._load()

    # -- the start -----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        started = WorkerStarted(at=self.world.now, boot=self.boot)
        self.writer.ask(partial(self._write, [started]), self._on_written)
        attempts = list(self.disk.inbox.values())
        begun = [one for one in attempts if one.running]
        interrupted = Ending(Outcome.INTERRUPTED, error="the worker died while it ran")
        for held in begun:
            self.latest[held.ref.task] = held.ref
            self._commit_end(held, interrupted)
        self._submit([one for one in attempts if not one.running])

    def _write(self, events: Sequence[Event]) -> int:
        self.disk.append(events)
        self.world.on_told(self, events)
        return self.disk.newest

    def _on_written(self, newest: int) -> None:
        self.newest = max(self.newest, newest)

    # -- connections -----------------------------------------------------------------------------------------------------

    @property
    def can_connect(self) -> bool:
        return self.world.broker.up and self.main is None and self.writer.idle

    def connect(self) -> None:
        """Open the main connection, and say hello on it: all that an older intake took is committed by now."""
        broker = self.world.broker
        self.session = self.world.new_id("session")
        will = Letter(self._status, Farewell(state="offline", session=self.session), retain=True)
        self.main = broker.connect(self.name, will=will)
        self.handshake = Handshake()
        self._heard_birth = False
        self._clock = None
        self.flow = flows.on_hub_away(self.flow)
        broker.subscribe(self.main, Control(self.site, self.name), HubStatus(), self._status)
        broker.subscribe(self.main, WorkerTasks(self.site, self.name))
        self.intake_nonce = self.world.new_id("intake")
        self._say_hello()
        self.reopening = True
        self.beat_at = self.world.now

    def on_main_down(self) -> None:
        """Notice that the main connection is gone: the intake lives inside it."""
        self.main = None
        self.renewing = self.reopening = False
        self.flow = flows.on_hub_away(self.flow)
        if self.intake is not None:
            self.world.broker.close(self.intake)
            self.intake = None

    @property
    def can_open_intake(self) -> bool:
        """Whether the hello has reached the broker, and the site's tasks may come."""
        wanted = self.reopening and self.intake is None and not self.stopping
        return wanted and self.main is not None and self.main.whole and not self.main.up

    def open_intake(self) -> None:
        self.intake = self.world.broker.connect(f"{self.name}-intake", clean=True)
        self.world.broker.share(self.intake, self.site)

    def on_intake_down(self) -> None:
        self.intake = None

    @property
    def can_renew(self) -> bool:
        """Whether all that came before `Renew` is committed."""
        return self.renewing and self.writer.idle and self._drained

    @property
    def _drained(self) -> bool:
        return self.intake is None or not self.intake.whole or not self.intake.session.queue

    def renew(self) -> None:
        """Close the intake, and say so; it is opened again when that has reached the broker."""
        if self.intake is not None:
            self.world.broker.close(self.intake)
            self.intake = None
        self.renewing = False
        self.intake_nonce = self.world.new_id("intake")
        self._say_hello()
        self.reopening = True

    # -- hello and heartbeat ---------------------------------------------------------------------------------------------

    @property
    def _status(self) -> Status:
        return Status(self.site, self.name)

    @property
    def position(self) -> JournalPosition:
        oldest = next((number for number in self.disk.rows if number <= self.newest), self.newest + 1)
        return JournalPosition(stream=self.stream, oldest=oldest, newest=self.newest, settled=self.settled)

    @property
    def held(self) -> tuple[TaskRef, ...]:
        return tuple(TaskRef(task=ref.task, attempt=ref.attempt) for ref in self.latest.values())

    def _say_hello(self) -> None:
        if self.main is None:
            return
        birth = Birth(
            session=self.session,
            boot=self.boot,
            at=self.world.now,
            version="model",
            slots=SLOTS,
            kinds=tuple(self.kinds),
            heartbeat_interval_seconds=HEARTBEAT_MS / 1000,
            session_expiry_seconds=SESSION_EXPIRY_SECONDS,
            journal=self.position,
            held=self.held,
            intake=self.intake_nonce,
        )
        self.main.publish(self._status, birth, retain=True)

    def beat(self) -> None:
        """Say how the worker fares."""
        if self.main is None:
            return
        self.beat_at = self.world.now + HEARTBEAT_MS
        position = self.position
        heartbeat = HeartbeatMessage(
            session=self.session,
            at=self.world.now,
            running=tuple(TaskRef(task=ref.task, attempt=ref.attempt) for ref in self.running),
            queued=len(self.waiting),
            journal=JournalDepth(rows=position.newest - position.oldest + 1, bytes=0),
            written_bytes_today=0,
            cpu_percent=0.0,
            memory_bytes=0,
            disk_free_bytes=0,
            held=self.held,
            position=position,
            clock=self._clock,
        )
        self.main.publish(Heartbeat(self.site, self.name), heartbeat, retain=True)

    def on_time(self) -> None:
        """Do what is due."""
        if self.main is None:
            return
        now = self.world.now / 1000
        if self.handshake.hello_at is not None and now >= self.handshake.hello_at:
            self.handshake = handshakes.on_hello(self.handshake, now)
            self._say_hello()
        if self.world.now >= self.beat_at:
            self.beat()
        self.flow = flows.on_tick(self.flow, now)

    # -- the uplink ------------------------------------------------------------------------------------------------------

    @property
    def can_send(self) -> bool:
        more = max(self.flow.cursor, 1) <= self.newest and any(n >= self.flow.cursor for n in self.disk.rows)
        return self.main is not None and flows.may_send(self.flow) and more

    def send_batch(self) -> None:
        """Send the next batch."""
        after = self.flow.cursor - 1
        numbers = [number for number in self.disk.rows if after < number <= self.newest][:BATCH_EVENTS]
        if not numbers or self.main is None:
            return
        has_holes = numbers[-1] - numbers[0] >= len(numbers)
        batch = Batch(
            stream=self.stream,
            first=numbers[0],
            events=tuple(self.disk.rows[number] for number in numbers),  # type: ignore[arg-type]
            after=after if after != numbers[0] - 1 else None,
            numbers=tuple(numbers) if has_holes else None,
        )
        self.flow = flows.on_sent(self.flow, batch.first, batch.last, self.world.now / 1000)
        self._sent = max(self._sent, batch.last)
        self.main.publish(Events(self.site, self.name), batch)

    def _settle(self, through: int) -> None:
        if self._asked < through <= self.newest:
            self._asked = through
            self.writer.ask(partial(self._write_settled, self.stream, through), self._on_settled)

    def _write_settled(self, stream: str, through: int) -> int:
        self.world.on_settled(self, stream, through)
        self.disk.settle(through)
        return through

    def _on_settled(self, through: int) -> None:
        self.settled = max(self.settled, through)

    # -- what comes ------------------------------------------------------------------------------------------------------

    def receive(self, line: Line, delivery: Delivery) -> None:
        letter = delivery.letter
        match letter.address:
            case SiteTasks():
                self._take(line, delivery, Via.SITE)
            case WorkerTasks():
                if not self.stopping:
                    self._take(line, delivery, Via.WORKER)
            case Control():
                self._on_control(line, delivery)
            case HubStatus():
                self._on_hub_status(letter.body)
                line.acknowledge(delivery)
            case _:
                self._on_own_status(letter.body)
                line.acknowledge(delivery)

    def _on_control(self, line: Line, delivery: Delivery) -> None:
        now = self.world.now / 1000
        match delivery.letter.body:
            case Receipt(stream=stream, through=through):
                if stream == self.stream and through > self.flow.settled:
                    self._settle(through)
                    self.flow = flows.on_receipt(self.flow, through, now)
            case Credit(batches=batches):
                self.flow = flows.on_credit(self.flow, batches)
            case Cancel(task=task, attempt=attempt, reason=reason):
                self.cancel(Ref(task, attempt), reason)
            case Renew():
                self.renewing = True
                self.reopening = False
            case Sync() as sync if sync.session == self.session:
                self._on_sync(sync, line, delivery)
                return
        line.acknowledge(delivery)

    def _on_sync(self, sync: Sync, line: Line, delivery: Delivery) -> None:
        if sync.stream == self.stream and sync.committed_through > self._sent:
            self.writer.ask(self._begin_stream, lambda _: self._on_stream())
            line.acknowledge(delivery)
            return
        self.handshake = handshakes.on_sync(self.handshake)
        for ref in sync.drop:
            self.cancel(Ref(ref.task, ref.attempt), "the hub has given it to another worker, or ended it")
        if sync.stream == self.stream:
            self._settle(sync.committed_through)
            self.flow = flows.on_sync(self.flow, sync.committed_through, sync.credit)
        if sync.send and not self.stopping:
            verdicts = admission.assigned(sync.send, self._host(), self.world.now)
            self._commit_verdicts(verdicts, None, lambda: line.acknowledge(delivery))
        else:
            line.acknowledge(delivery)

    def _begin_stream(self) -> None:
        self.disk.stream = self.world.new_id("stream")
        self.disk.settled = 0
        self.world.on_new_stream(self)

    def _on_stream(self) -> None:
        self.stream = self.disk.stream
        self.settled = self._asked = 0
        self.flow = Flow()
        self._say_hello()

    def _on_hub_status(self, status: object) -> None:
        if not isinstance(status, HubStatusMessage):
            raise TypeError(status)
        now = self.world.now / 1000
        if status.state == "online":
            self.handshake = handshakes.on_hub_online(
                self.handshake, status.session, was_there=not self._heard_birth, now=now
            )
        else:
            self.handshake = handshakes.on_hub_offline(self.handshake, status.session)
        if not self.handshake.synced:
            self.flow = flows.on_hub_away(self.flow)

    def _on_own_status(self, status: object) -> None:
        if not isinstance(status, Birth | Farewell):
            raise TypeError(status)
        if status.session == self.session:
            self._heard_birth = True
        elif self._heard_birth:
            self.handshake = handshakes.on_overwritten(self.handshake, self.world.now / 1000)

    # -- the intake ------------------------------------------------------------------------------------------------------

    def _host(self) -> Host:
        room = len(self.waiting) < QUEUE or not self.flow.open
        return Host({kind: ANY_KIND for kind in self.kinds}, {}, has_room=room)  # type: ignore[misc]

    def _take(self, line: Line, delivery: Delivery, via: Via) -> None:
        payload = delivery.letter.body
        if not isinstance(payload, bytes):
            raise TypeError(payload)
        message = Message("tasks", via, payload, self.world.now)
        verdicts = admission.examine(message, self._host(), partial(self.world.new_id, "task"))
        self._commit_verdicts(verdicts, message, lambda: line.acknowledge(delivery))

    def _commit_verdicts(self, verdicts: list[Verdict], message: Message | None, then: object) -> None:
        def done(result: tuple[int, list[Held]]) -> None:
            newest, held = result
            self._on_written(newest)
            self._submit(held)
            then()  # type: ignore[operator]

        self.writer.ask(partial(self._write_verdicts, verdicts, message), done)

    def _write_verdicts(self, verdicts: list[Verdict], message: Message | None) -> tuple[int, list[Held]]:
        names = {verdict.held.ref.task for verdict in verdicts if isinstance(verdict, Take)}
        final = admission.recall(verdicts, self.world.mutant.memory(self.disk.known(names)), message)
        newest = self._write([one.event for one in final if isinstance(one, Take | Decline | Reject)])
        taken = [one.held for one in final if isinstance(one, Take)]
        for held in taken:
            self.disk.inbox[held.ref] = held
        return newest, taken

    # -- the runner ------------------------------------------------------------------------------------------------------

    def _submit(self, attempts: Iterable[Held]) -> None:
        for held in attempts:
            older = self.latest.get(held.ref.task)
            if older is not None:
                self.cancel(older, f"superseded by attempt {held.ref.attempt}")
            self.latest[held.ref.task] = held.ref
            self.waiting.add(held)

    def cancel(self, ref: Ref, reason: str) -> None:
        """End an attempt as cancelled, if it is held and has not ended."""
        ending = Ending(Outcome.CANCELLED, error=reason or "cancelled")
        running = self.running.get(ref)
        if running is not None and running.stopped is None:
            running.stopped = ending
        held = self.waiting.remove(ref)
        if held is not None:
            self._commit_end(held, ending)

    @property
    def can_begin(self) -> bool:
        return not self.stopping and len(self.waiting) > 0 and len(self.running) < SLOTS

    def begin_next(self) -> None:
        """Give the next attempt a slot. The mark of one that may run twice goes to the disk with the next commit."""
        held = self.waiting.pop()
        self.running[held.ref] = Running(held)
        if held.expires_at is not None and self.world.now >= held.expires_at:
            self._leave_slot(held.ref, Ending(Outcome.EXPIRED, error="not begun in time"))
            return
        begun = partial(self._write_begun, held)
        if held.spec.idempotent:
            self.writer.ask(begun, self._on_written)
            self._execute(held.ref)
        else:
            self.writer.ask(begun, lambda newest: (self._on_written(newest), self._execute(held.ref))[0])

    def _write_begun(self, held: Held) -> int:
        if held.ref in self.disk.inbox:
            self.disk.inbox[held.ref] = replace(held, running=True)
        return self._write([TaskStarted(at=self.world.now, task=held.ref.task, attempt=held.ref.attempt)])

    def _execute(self, ref: Ref) -> None:
        running = self.running.get(ref)
        if running is None:
            return
        if running.stopped is not None:
            self._leave_slot(ref, running.stopped)
        else:
            self.world.on_begun(self, ref)
            self.executing.add(ref)

    def progress(self, ref: Ref) -> None:
        event = TaskProgress(at=self.world.now, task=ref.task, attempt=ref.attempt, fraction=0.5)
        self.writer.ask(partial(self._write, [event]), self._on_written)

    def finish(self, ref: Ref, outcome: Outcome) -> None:
        """An executor comes to its end."""
        stopped = self.running[ref].stopped
        result = f"{self.name}/{ref.attempt}" if outcome is Outcome.SUCCEEDED else None
        self._leave_slot(ref, stopped or Ending(outcome, result, None if result else "it did not work"))

    def _leave_slot(self, ref: Ref, ending: Ending) -> None:
        running = self.running.pop(ref)
        self.executing.discard(ref)
        self._commit_end(running.held, ending)

    def _commit_end(self, held: Held, ending: Ending) -> None:
        def done(newest: int) -> None:
            self._on_written(newest)
            if self.latest.get(held.ref.task) == held.ref:
                del self.latest[held.ref.task]

        self.writer.ask(partial(self._write_end, held, ending), done)

    def _write_end(self, held: Held, ending: Ending) -> int:
        self.disk.end(held)
        return self._write([endings.finished(held, ending, self.world.now)])

    # -- stopping --------------------------------------------------------------------------------------------------------

    def hand_back(self) -> None:
        """Give what is queued back to the hub."""
        attempts = self.waiting.clear()
        if not attempts:
            return

        def write() -> int:
            for one in attempts:
                self.disk.inbox.pop(one.ref, None)
            at = self.world.now
            return self._write(
                [
                    TaskDeclined(
                        at=at,
                        task=one.ref.task,
                        attempt=one.ref.attempt,
                        reason=admission.STOPPING,
                        injected=Take(one).injected,
                    )
                    for one in attempts
                ]
            )

        self.writer.ask(write, self._on_written)

    # -- a full journal --------------------------------------------------------------------------------------------------

    def evict(self, kind: Class) -> None:
        """Drop the older half of a class, with a gap in the same transaction."""

        def write() -> int:
            rows = [(number, event.at, 1) for number, event in self.disk.rows.items() if class_of(event) is kind]
            gone = cut(rows, max(1, len(rows) // 2))
            if gone is None:
                return self.disk.newest
            self.world.on_evicted(self, [self.disk.rows.pop(number) for number in gone.numbers])
            return self._write([gone.loss.gap(kind, "the journal was full", self.world.now)])

        self.writer.ask(write, self._on_written)
