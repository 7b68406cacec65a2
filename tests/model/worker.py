"""A worker: one run of the agent on a disk. It follows `edge_agent.session`, `greeter`, `reception` and `uplink`.

What it decides is the product's (`edge_agent.rules`); how the decisions are strung together is repeated here, since the
agent's own drivers are made of tasks and timers of an event loop.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from broker.messages import (
    CONTROL,
    STATUS,
    Birth,
    Cancel,
    ClockSample,
    Credit,
    Farewell,
    HeartbeatMessage,
    HubStatusMessage,
    JournalDepth,
    Receipt,
    Renew,
    Sync,
    TaskRef,
    Via,
    WorkerStarted,
    encode,
)
from broker.topics import Control, Events, Heartbeat, HubStatus, SiteTasks, Status, WorkerTasks
from edge_agent.rules import admission, flow as flows, handshake as handshakes
from edge_agent.rules.admission import Decline, Host, Message, Reject, Take
from edge_agent.rules.attempts import Ref
from edge_agent.rules.flow import Flow
from edge_agent.rules.handshake import Handshake
from tests.model.broker import Letter
from tests.model.journal import Journal
from tests.model.runner import SLOTS, Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from broker.messages import Assignment
    from broker.problems import Problem
    from edge_agent.rules.admission import Verdict
    from edge_agent.rules.attempts import Held
    from tests.model.broker import Delivery, Line
    from tests.model.disk import Disk
    from tests.model.world import World

HEARTBEAT_MS = 30_000
SESSION_EXPIRY_SECONDS = 3600
QUEUE = 3
"""How many attempts may wait for a slot before a worker declines what another could take."""

BATCH_EVENTS = 3
"""Small, so that a schedule has several batches in flight."""

Result = TypeVar("Result")


class AnyKind:
    """A kind of task that takes whatever it is given."""

    def problems(self, params: Mapping[str, object]) -> list[Problem]:
        del params
        return []

    def refusal(self, params: Mapping[str, object]) -> str | None:
        del params
        return None


ANY_KIND = AnyKind()


class Worker:
    """One run of the agent: everything here is gone with a crash."""

    def __init__(self, world: World, name: str, site: str, disk: Disk) -> None:
        self.world = world
        self.name = name
        self.site = site
        self.disk = disk
        self.kinds = world.kinds_of(name)
        self.boot = world.new_id("boot")
        self.journal = Journal(world, name, disk)
        self.writer = self.journal.writer
        self.frozen = False
        self.stopping = False
        self.runner = Runner(self)
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
        self._beat_at = 0
        world.witness.on_started(self)
        self.journal.post([WorkerStarted(at=world.now, boot=self.boot)])
        self.runner.load()

    # -- connections -----------------------------------------------------------------------------------------------

    @property
    def can_connect(self) -> bool:
        """Whether all that an older intake took is committed: the hello says that it is held, or journalled."""
        return self.world.broker.up and self.main is None and self.has_committed

    @property
    def has_committed(self) -> bool:
        return self.writer.idle

    def connect(self) -> None:
        """Open the main connection, and say hello on it."""
        broker = self.world.broker
        self.session = self.world.new_id("session")
        will = Letter(self._status, encode(Farewell(state="offline", session=self.session)), retain=True)
        self.main = broker.connect(self.name, will=will, starts_clean=self.disk.is_new)
        self.disk.is_new = False
        self.handshake = handshakes.begin(self.world.now / 1000)
        self._heard_birth = False
        self._clock = None
        self.flow = flows.on_hub_away(self.flow)
        broker.subscribe(self.main, Control(self.site, self.name), HubStatus(), self._status)
        broker.subscribe(self.main, WorkerTasks(self.site, self.name))
        self._open_anew()
        self._beat_at = self.world.now

    def on_main_down(self) -> None:
        """Notice that the main connection is gone: the intake lives inside it."""
        self.main = None
        self.renewing = self.reopening = False
        self.flow = flows.on_hub_away(self.flow)
        self._close_intake()

    @property
    def can_open_intake(self) -> bool:
        """Whether the hello has reached the broker, and the site's tasks may come."""
        wanted = self.reopening and self.intake is None and not self.stopping
        return wanted and self.main is not None and self.main.whole and not self.main.up

    def open_intake(self) -> None:
        self.intake = self.world.broker.connect(f"{self.name}-intake", clean=True)
        self.world.broker.share(self.intake, self.site)

    def on_intake_down(self) -> None:
        """Notice that the intake is gone: it is opened again under the same nonce, since nothing was shown by it."""
        self.intake = None

    @property
    def can_renew(self) -> bool:
        """Whether all that came before `Renew` is committed."""
        return self.renewing and self.has_committed and self.is_drained

    @property
    def is_drained(self) -> bool:
        return self.intake is None or not self.intake.whole or not self.intake.session.queue

    def renew(self) -> None:
        """Close the intake in order, and say so; it is opened again when that has reached the broker."""
        self._close_intake()
        self.renewing = False
        self._open_anew()

    def _open_anew(self) -> None:
        self.intake_nonce = self.world.new_id("intake")
        self._say_hello()
        self.reopening = True

    def _close_intake(self) -> None:
        if self.intake is not None:
            self.world.broker.close(self.intake)
            self.intake = None

    # -- the end ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin to stop: no more tasks, what is queued goes back to the hub, what runs may end."""
        if not self.stopping:
            self.stopping = True
            self.renewing = self.reopening = False
            if self.intake is not None:
                self.world.broker.unshare(self.intake)

    @property
    def can_leave(self) -> bool:
        """Whether nothing runs or waits for its commit; what is not sent by then is sent by the next run."""
        return self.runner.closed and self.writer.idle and not self.runner.running

    @property
    def can_wind_down(self) -> bool:
        return self.stopping and not self.runner.closed and self.writer.idle and self.is_drained

    def wind_down(self) -> None:
        """Close the intake once it is drained, and begin nothing more."""
        self._close_intake()
        self.runner.closed = True
        if self.flow.open:
            self.writer.begin(self.runner.hand_back())

    def leave(self) -> None:
        """Say farewell, and close the connection in order."""
        if self.main is not None and self.main.whole:
            self.main.publish(self._status, encode(Farewell(state="stopped", session=self.session)), retain=True)
            self.world.broker.close(self.main)

    # -- hello and heartbeat ---------------------------------------------------------------------------------------

    @property
    def _status(self) -> Status:
        return Status(self.site, self.name)

    @property
    def _held(self) -> tuple[TaskRef, ...]:
        return tuple(TaskRef(task=ref.task, attempt=ref.attempt) for ref in self.runner.held)

    def _say_hello(self) -> None:
        if self.main is None:
            return
        birth = Birth(
            session=self.session,
            boot=self.boot,
            at=self.world.now,
            version="model",
            slots=SLOTS,
            kinds=self.kinds,
            heartbeat_interval_seconds=HEARTBEAT_MS / 1000,
            session_expiry_seconds=SESSION_EXPIRY_SECONDS,
            journal=self.journal.position,
            held=self._held,
            intake=self.intake_nonce,
        )
        self.main.publish(self._status, encode(birth), retain=True)

    def beat(self) -> None:
        if self.main is None:
            return
        self._beat_at = self.world.now + HEARTBEAT_MS
        position = self.journal.position
        heartbeat = HeartbeatMessage(
            session=self.session,
            at=self.world.now,
            running=tuple(TaskRef(task=ref.task, attempt=ref.attempt) for ref in self.runner.running),
            queued=self.runner.queued,
            journal=JournalDepth(rows=position.newest - position.oldest + 1, bytes=0),
            written_bytes_today=0,
            cpu_percent=0.0,
            memory_bytes=0,
            disk_free_bytes=0,
            held=self._held,
            position=position,
            clock=self._clock,
        )
        self.main.publish(Heartbeat(self.site, self.name), encode(heartbeat), retain=True)

    def on_time(self) -> None:
        """Do what is due."""
        if self.main is None:
            return
        now = self.world.now / 1000
        if self.handshake.hello_at is not None and now >= self.handshake.hello_at:
            self.handshake = handshakes.on_hello(self.handshake, now)
            self._say_hello()
        if self.world.now >= self._beat_at:
            self.beat()
        self.flow = flows.on_tick(self.flow, now)

    # -- the uplink ------------------------------------------------------------------------------------------------

    @property
    def can_send(self) -> bool:
        return self.main is not None and flows.may_send(self.flow) and self.journal.has_more(self.flow.cursor)

    def send_batch(self) -> None:
        """Send the next batch."""
        batch = self.journal.lease(self.flow.cursor)
        if self.main is not None:
            self.flow = flows.on_sent(self.flow, batch.first, batch.last, self.world.now / 1000)
            self.main.publish(Events(self.site, self.name), encode(batch))

    # -- what comes ------------------------------------------------------------------------------------------------

    def receive(self, line: Line, delivery: Delivery) -> None:
        letter, ack = delivery.letter, partial(line.acknowledge, delivery)
        match letter.address:
            case SiteTasks():
                self._take(letter.body, Via.SITE, ack)
            case WorkerTasks():
                if not self.stopping:  # else the broker keeps it for the next start
                    self._take(letter.body, Via.WORKER, ack)
            case Control():
                self._on_control(letter.body, ack)
            case HubStatus():
                self._on_hub_status(HubStatusMessage.model_validate_json(letter.body))
                ack()
            case _:
                self._on_own_status(STATUS.validate_json(letter.body))
                ack()

    def _on_control(self, payload: bytes, ack: Callable[[], None]) -> None:
        match CONTROL.validate_json(payload):
            case Receipt(stream=stream, through=through):
                flow = flows.on_receipt(self.flow, through, self.world.now / 1000)
                if stream == self.journal.stream and flow is not self.flow:
                    self.journal.settle(through)
                    self.flow = flow
            case Credit(batches=batches):
                self.flow = flows.on_credit(self.flow, batches)
            case Cancel(task=task, attempt=attempt, reason=reason):
                self.runner.cancel(Ref(task, attempt), reason)
            case Renew():
                self.renewing = not self.stopping
                self.reopening = False
            case Sync() as sync if sync.session == self.session:
                self._on_sync(sync, ack)
                return
        ack()

    def _on_sync(self, sync: Sync, ack: Callable[[], None]) -> None:
        self.world.witness.on_heard(self.name)
        if self.journal.is_outrun(sync.stream, sync.committed_through):
            self.writer.begin(self._begin_stream())
            ack()
            return
        self.handshake = handshakes.on_sync(self.handshake, self.world.now / 1000)
        for ref in sync.drop:
            self.runner.cancel(Ref(ref.task, ref.attempt), "the hub has given it to another worker, or ended it")
        self.beat()
        if sync.stream == self.journal.stream:
            self.journal.settle(sync.committed_through)
            self.flow = flows.on_sync(self.flow, sync.committed_through, sync.credit)
        self.writer.begin(self._take_assigned(() if self.stopping else sync.send, ack))

    async def _begin_stream(self) -> None:
        await self.journal.begin_stream()
        self.flow = Flow()
        self._say_hello()

    def _on_hub_status(self, status: HubStatusMessage) -> None:
        if status.state == "online":
            self.handshake = handshakes.on_hub_online(
                self.handshake, status.session, was_there=not self._heard_birth, now=self.world.now / 1000
            )
        else:
            self.handshake = handshakes.on_hub_offline(self.handshake, status.session, self.world.now / 1000)
        if not self.handshake.synced:
            self.flow = flows.on_hub_away(self.flow)

    def _on_own_status(self, status: Birth | Farewell) -> None:
        if status.session == self.session:
            self._heard_birth = True
        elif self._heard_birth:
            self.handshake = handshakes.on_overwritten(self.handshake, self.world.now / 1000)

    # -- the intake ------------------------------------------------------------------------------------------------

    def _host(self) -> Host:
        room = self.runner.queued < QUEUE or not self.flow.open
        return Host(dict.fromkeys(self.kinds, ANY_KIND), {}, has_room=room)

    def _take(self, payload: bytes, via: Via, ack: Callable[[], None]) -> None:
        message = Message("tasks", via, payload, self.world.now)
        verdicts = admission.examine(message, self._host(), partial(self.world.new_id, "task"))
        self.writer.begin(self._commit_verdicts(verdicts, message, ack))

    async def _take_assigned(self, send: Sequence[Assignment], ack: Callable[[], None]) -> None:
        if send:
            await self._commit_verdicts(admission.assigned(send, self._host(), self.world.now), None, ack)
        else:
            ack()

    async def _commit_verdicts(self, verdicts: list[Verdict], message: Message | None, ack: Callable[[], None]) -> None:
        self.runner.submit(await self.journal.commit(partial(self._write_verdicts, verdicts, message)))
        ack()

    def _write_verdicts(self, verdicts: list[Verdict], message: Message | None) -> list[Held]:
        names = {verdict.held.ref.task for verdict in verdicts if isinstance(verdict, Take)}
        final = admission.recall(verdicts, self.disk.known(names), message)
        self.journal.write([one.event for one in final if isinstance(one, Take | Decline | Reject)])
        taken = [one.held for one in final if isinstance(one, Take)]
        self.disk.inbox |= {held.ref: held for held in taken}
        return taken
