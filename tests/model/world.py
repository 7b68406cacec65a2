"""A hub, a broker, workers and their network as plain values, and all that a witness outside of them would remember.

The world never decides anything: it offers *moves* (a message arrives, a commit is done, who waited for it goes on) and
*faults*, and whoever drives it chooses. After each of them the witness compares what it has seen with the promises, and
raises `Broken` with the story so far.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from broker.messages import Outcome, Retry, TaskEvent, TaskFinished, TaskSpec
from broker.topics import SiteTasks, WorkerTasks
from edge_agent.rules.eviction import Class
from tests.model.broker import HUB, Broker, Delivery
from tests.model.hub import Database, Hub
from tests.model.mutants import NONE
from tests.model.witness import Witness
from tests.model.worker import Disk, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from broker.messages import Event
    from edge_agent.rules.attempts import Ref
    from hub.rules.task import Task
    from tests.model.broker import Line
    from tests.model.hub import Change
    from tests.model.mutants import Mutant

Move = tuple[str, "Callable[[], object]"]

TICK_MS = 1_000
KEEPALIVE_MS = 30_000
"""How long a dead connection is believed in."""

WINDOW = 3
"""How many messages the broker hands a client before it waits for an acknowledgement."""

SITE = "site-a"
NAMES = ("w1", "w2")
COMMON, RARE = "noop", "rare"
HEALING_MS = 45 * 60_000
MAX_MOVES = 20_000


class World:
    """Everything there is. `dice` decides what the world leaves open: which of several moves comes first."""

    def __init__(self, seed: int = 0, mutant: Mutant = NONE) -> None:
        self.dice = Random(seed)  # noqa: S311  a model, not a lock
        self.mutant = mutant
        self.now = 1_000_000
        self._ids: Counter[str] = Counter()
        self.witness = Witness(self)
        self.broker = Broker(self.dice.randrange)
        self.database = Database()
        self.backup: Database | None = None
        self.hub: Hub | None = Hub(self, self.database)
        self.disks = {name: Disk(self.new_id("stream")) for name in NAMES}
        self.snapshots: dict[str, Disk] = {}
        self.workers: dict[str, Worker | None] = dict.fromkeys(NAMES)
        self.silent_since: dict[Line, int] = {}
        for name in NAMES:
            self.start_worker(name)
        self.settle()

    def new_id(self, kind: str) -> str:
        self._ids[kind] += 1
        return f"{kind}-{self._ids[kind]}"

    def kinds_of(self, name: str) -> tuple[str, ...]:
        return (COMMON, RARE) if name == NAMES[0] else (COMMON,)

    # -- moves -----------------------------------------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        """Return all that can happen next without a fault, and without time."""
        found: list[Move] = []
        if self.broker.up:
            for line in self.broker.lines:
                if line.up and line not in self.silent_since:
                    found.append((f"the broker takes from {line.name}", lambda one=line: self.broker.route_next(one)))
        if self.hub is not None and not self.hub.frozen:
            found += self._moves_of_hub(self.hub)
        for worker in self.workers.values():
            if worker is not None and not worker.frozen:
                found += self._moves_of_worker(worker)
        return found

    def _moves_of_hub(self, hub: Hub) -> list[Move]:
        found: list[Move] = []
        if hub.writer.can_commit:
            found.append(("the hub commits", hub.writer.commit))
        if hub.writer.can_go_on:
            found.append(("the hub goes on", hub.writer.go_on))
        if hub.line is None:
            if self.broker.up:
                found.append(("the hub connects", hub.connect))
        elif not hub.line.client_believes:
            found.append(("the hub's link is down", hub.on_link_down))
        else:
            found += self._receipt_of(hub.line, hub.receive)
        if hub.can_place:
            found.append(("the hub places", hub.place_some))
        return found

    def _moves_of_worker(self, worker: Worker) -> list[Move]:
        name = worker.name
        found: list[Move] = []
        if worker.writer.can_commit:
            found.append((f"{name} commits", worker.writer.commit))
        if worker.writer.can_go_on:
            found.append((f"{name} goes on", worker.writer.go_on))
        if worker.can_begin:
            found.append((f"{name} begins", worker.begin_next))
        for ref in [ref for ref in worker.executing if worker.running[ref].stopped]:
            found.append((f"{name} stops {ref}", lambda one=ref: worker.finish(one, Outcome.CANCELLED)))
        if worker.main is None:
            if worker.can_connect:
                found.append((f"{name} connects", worker.connect))
            return found
        if not worker.main.client_believes:
            return [*found, (f"{name}'s link is down", worker.on_main_down)]
        found += self._receipt_of(worker.main, worker.receive)
        if worker.can_send:
            found.append((f"{name} sends", worker.send_batch))
        if worker.can_open_intake:
            found.append((f"{name} opens its intake", worker.open_intake))
        if worker.can_renew:
            found.append((f"{name} renews", worker.renew))
        if worker.intake is not None:
            if worker.intake.client_believes:
                found += self._receipt_of(worker.intake, worker.receive)
            else:
                found.append((f"{name}'s intake is down", worker.on_intake_down))
        return found

    def _receipt_of(self, line: Line, receive: Callable[[Line, Delivery], None]) -> list[Move]:
        if not line.whole or line in self.silent_since:
            return []
        unacknowledged = 0
        for delivery in line.session.queue:
            if not delivery.delivered:
                return [(f"{line.name} receives", lambda: self._receive(line, delivery, receive))]
            unacknowledged += 1
            if unacknowledged >= WINDOW:
                break
        return []

    def _receive(self, line: Line, delivery: Delivery, receive: Callable[[Line, Delivery], None]) -> None:
        delivery.delivered = True
        self.witness.tell("  %s hears %s", line.name, delivery.letter)
        receive(line, delivery)

    def move(self) -> bool:
        """Do one thing that can be done."""
        moves = self.moves()
        if not moves:
            return False
        what, do = moves[self.dice.randrange(len(moves))]
        self.witness.tell("  %s", what)
        do()
        return True

    def settle(self) -> None:
        """Do what can be done, until there is nothing."""
        for _ in range(MAX_MOVES):
            if not self.move():
                self.witness.look()
                return
        self.witness.broken("nothing comes to rest")

    # -- time ------------------------------------------------------------------------------------------------------------

    def pass_time(self, ms: int) -> None:
        """Let time pass, in small steps; whoever lives and is not frozen does what is due, and what follows."""
        end = self.now + ms
        while self.now < end:
            self.now = min(end, self.now + TICK_MS)
            self._notice_dead_lines()
            for worker in self.workers.values():
                if worker is not None and not worker.frozen:
                    worker.on_time()
            if self.hub is not None and not self.hub.frozen:
                self.hub.tick()
            self.settle()

    def _notice_dead_lines(self) -> None:
        frozen = {
            line
            for process in (self.hub, *self.workers.values())
            if process is not None and process.frozen
            for line in ([process.line] if isinstance(process, Hub) else [process.main, process.intake])
        }
        for line in list(self.broker.lines):
            if line.client_believes and line not in self.silent_since and line not in frozen:
                continue
            since = self.silent_since.setdefault(line, self.now) if line not in frozen else line.frozen_since
            if since is None:
                line.frozen_since = self.now
            elif self.now - since >= KEEPALIVE_MS:
                self.broker.cut(line)
                self.silent_since.pop(line, None)

    # -- what people do --------------------------------------------------------------------------------------------------

    def spec(self, *, idempotent: bool, kind: str = COMMON, tries: int = 1, expires: bool = False) -> TaskSpec:
        return TaskSpec(
            kind=kind,
            idempotent=idempotent,
            retry=Retry(max_attempts=tries),
            expires_in_seconds=20.0 if expires else None,
        )

    def submit(self, spec: TaskSpec, pinned: str | None = None) -> None:
        if self.hub is not None and not self.hub.frozen:
            self.hub.post(self.new_id("posted"), spec, SITE, pinned)

    def inject(self, spec: TaskSpec, *, named: bool, pinned: str | None = None) -> None:
        """Publish a task on a tasks topic, as anybody may."""
        if not self.broker.up:
            return
        body = spec.model_dump(mode="json", exclude_defaults=True)
        if named:
            body["id"] = self.new_id("injected")
            self.witness.injected.add(body["id"])
        address = WorkerTasks(SITE, pinned) if pinned else SiteTasks(SITE)
        from tests.model.broker import Letter

        self.broker.route(Letter(address, json.dumps(body).encode()), publisher="anybody")

    def executing(self) -> list[tuple[Worker, Ref]]:
        return [
            (worker, ref)
            for worker in self.workers.values()
            if worker is not None and not worker.frozen
            for ref in sorted(worker.executing)
        ]

    # -- faults ----------------------------------------------------------------------------------------------------------

    def start_worker(self, name: str) -> None:
        if self.workers[name] is None:
            self.workers[name] = Worker(self, name, SITE, self.disks[name])

    def crash_worker(self, name: str) -> None:
        worker = self.workers[name]
        if worker is None:
            return
        self.workers[name] = None
        for line in (worker.main, worker.intake):
            if line is not None:
                self._end_of(line)

    def start_hub(self) -> None:
        if self.hub is None:
            self.hub = Hub(self, self.database)

    def crash_hub(self) -> None:
        if self.hub is not None:
            line, self.hub = self.hub.line, None
            if line is not None:
                self._end_of(line)

    def _end_of(self, line: Line) -> None:
        """A process is gone: the broker sees that at once, or believes in the connection for a while."""
        if self.dice.random() < 0.5:
            self.broker.cut(line)
        else:
            self.broker.half_open(line)
        self.silent_since.pop(line, None)

    def lose_disk(self, name: str) -> None:
        self.crash_worker(name)
        self.witness.on_disk_lost(name)
        self.disks[name] = Disk(self.new_id("stream"))

    def snapshot(self, name: str) -> None:
        self.snapshots[name] = self.disks[name].copy()

    def rewind(self, name: str) -> None:
        if name in self.snapshots:
            self.crash_worker(name)
            self.witness.on_disk_lost(name)
            self.disks[name] = self.snapshots[name].copy()
            self.witness.on_rewound(name, self.disks[name])

    def evict(self, name: str, kind: Class) -> None:
        worker = self.workers[name]
        if worker is not None and not worker.frozen:
            worker.evict(kind)

    def crash_broker(self, *, wipe: bool) -> None:
        self.broker.crash(wipe=wipe)
        self.silent_since.clear()

    def start_broker(self) -> None:
        self.broker.up = True

    def stall(self, line: Line) -> None:
        self.silent_since.setdefault(line, self.now)

    def unstall(self) -> None:
        self.silent_since.clear()

    def lose_message(self, line: Line) -> None:
        """The broker drops what it queued for a client, as it does when a queue is full."""
        waiting = [one for one in line.session.queue if not one.delivered]
        if waiting:
            lost = waiting[self.dice.randrange(len(waiting))]
            self.witness.tell("  lost: %s", lost.letter)
            line.session.queue.remove(lost)

    def double_message(self, line: Line) -> None:
        """A message comes twice. One for a whole site never does: its publisher would have to have sent it twice."""
        queue = line.session.queue
        waiting = [number for number, one in enumerate(queue) if not isinstance(one.letter.address, SiteTasks)]
        if waiting:
            number = waiting[self.dice.randrange(len(waiting))]
            queue.insert(number + 1, Delivery(queue[number].letter))

    # -- the end ---------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Mend everything, let every task come to its end, and see that everything comes to rest."""
        self.witness.tell("everything heals")
        self.start_broker()
        self.unstall()
        self.start_hub()
        for name in NAMES:
            self.start_worker(name)
        for process in (self.hub, *self.workers.values()):
            if process is not None:
                process.frozen = False
        end = self.now + HEALING_MS
        while self.now < end:
            self.settle()
            for worker, ref in self.executing():
                worker.finish(ref, Outcome.SUCCEEDED)
            self.settle()
            if self.witness.at_rest():
                break
            self.pass_time(2_000)
        self.witness.judge_the_end()

    # -- what is told to the witness -------------------------------------------------------------------------------------

    def on_told(self, worker: Worker, events: Sequence[Event]) -> None:
        self.witness.on_told(worker, events)

    def on_settled(self, worker: Worker, stream: str, through: int) -> None:
        self.witness.on_settled(worker.name, stream, through)

    def on_new_stream(self, worker: Worker) -> None:
        self.witness.on_new_stream(worker)

    def on_evicted(self, worker: Worker, events: Iterable[Event]) -> None:
        self.witness.on_evicted(worker, events)

    def on_begun(self, worker: Worker, ref: Ref) -> None:
        self.witness.on_begun(worker, ref)

    def on_applied(self, worker: str, stream: str, events: Iterable[tuple[int, Event]]) -> None:
        self.witness.on_applied(worker, stream, events)

    def on_committed(self, changes: Iterable[Change]) -> None:
        self.witness.on_committed(changes)

    def on_sent(self, task: Task) -> None:
        self.witness.on_sent(task)


__all__ = ["HUB", "TaskEvent", "TaskFinished", "World"]
