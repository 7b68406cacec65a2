"""A hub, a broker, workers and their network as plain values, and a witness that stands outside of them.

The world never decides anything: it offers *moves* (a message arrives, a commit is done, who waited for it goes on) and
time, and suffers faults (`tests.model.faults`); whoever drives it chooses. The witness compares what it sees with the
promises, and raises `Broken` with the story so far.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from broker.messages import Outcome, Retry, TaskSpec
from broker.topics import SiteTasks, WorkerTasks
from tests.model import moves
from tests.model.broker import HUB, Broker, Letter
from tests.model.disk import Disk
from tests.model.hub import Hub
from tests.model.store import STAGE, Database
from tests.model.story import BEGAN_MS
from tests.model.witness import Witness
from tests.model.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_agent.rules.attempts import Ref
    from hub.rules.actions import Action
    from hub.rules.task import Task
    from tests.model.broker import Line
    from tests.model.moves import Move

TICK_MS = 1_000
KEEPALIVE_MS = 30_000
"""How long a dead connection is believed in."""

SITE = "site-a"
NAMES = ("w1", "w2")
COMMON, RARE = "noop", "rare"
HEALING_MS = 15 * 60_000
MAX_MOVES = 20_000


class World:
    """Everything there is. `dice` decides what the world leaves open: which of several moves comes first."""

    def __init__(self) -> None:
        STAGE.world = self
        self.dice = Random(0)  # noqa: S311  a model, not a lock
        self.now = BEGAN_MS
        self._ids: Counter[str] = Counter()
        self.witness = Witness(self)
        self.broker = Broker(self.dice.randrange)
        self.database = Database()
        self.hub: Hub | None = Hub(self, self.database)
        self.disks = {name: Disk(self.new_id("stream")) for name in NAMES}
        self.workers: dict[str, Worker | None] = dict.fromkeys(NAMES)
        self.silent: set[Line] = set()
        self.backup: Database | None = None
        self.snapshots: dict[str, Disk] = {}
        for name in NAMES:
            self.start_worker(name)
        self.settle()

    def new_id(self, kind: str) -> str:
        self._ids[kind] += 1
        return f"{kind}-{self._ids[kind]}"

    def kinds_of(self, name: str) -> tuple[str, ...]:
        return (COMMON, RARE) if name == NAMES[0] else (COMMON,)

    def committed(self, worker: str, stream: str) -> int:
        return self.database.marks.get((worker, stream), 0)

    @property
    def living(self) -> Iterator[Worker]:
        return (worker for worker in self.workers.values() if worker is not None)

    def start_worker(self, name: str) -> None:
        if self.workers[name] is None:
            self.workers[name] = Worker(self, name, SITE, self.disks[name])

    def start_hub(self) -> None:
        if self.hub is None:
            self.hub = Hub(self, self.database)

    # -- moves -----------------------------------------------------------------------------------------------------

    def move(self) -> bool:
        """Do one thing that can be done, by whoever's turn it is."""
        actors = self._actors()
        first = self.dice.randrange(len(actors)) if actors else 0
        for name, moves_of in (*actors[first:], *actors[:first]):
            found = moves_of()
            if found:
                what, do = found[self.dice.randrange(len(found))]
                self.witness.story.tell("  %s %s", name, what)
                do()
                return True
        return False

    def _actors(self) -> list[tuple[str, Callable[[], list[Move]]]]:
        """Return who may do something next."""
        found: list[tuple[str, Callable[[], list[Move]]]] = []
        if self.hub is not None and not self.hub.frozen:
            found.append((HUB, partial(moves.of_hub, self, self.hub)))
        found += [(worker.name, partial(moves.of_worker, self, worker)) for worker in self.living if not worker.frozen]
        if self.broker.up:
            found += [
                (f"a message of {line.name}", partial(moves.of_line, self.broker, line))
                for line in self.broker.lines
                if line.up and line not in self.silent
            ]
        return found

    def leave(self, worker: Worker) -> None:
        """End a worker's process in order."""
        worker.leave()
        self.workers[worker.name] = None

    def settle(self) -> None:
        """Do what can be done, until there is nothing."""
        for _ in range(MAX_MOVES):
            if not self.move():
                self.witness.look()
                return
        self.witness.broken("nothing comes to rest")

    # -- time ------------------------------------------------------------------------------------------------------

    def pass_time(self, ms: int) -> None:
        """Let time pass, in small steps; whoever lives and is not frozen does what is due, and what follows."""
        end = self.now + ms
        while self.now < end:
            self.now = min(end, self.now + TICK_MS)
            self._notice_dead_lines()
            for worker in self.living:
                if not worker.frozen:
                    worker.on_time()
            if self.hub is not None and not self.hub.frozen:
                self.hub.tick()
            self.settle()

    def _notice_dead_lines(self) -> None:
        """Let the broker find out about connections behind which nobody has been for the keepalive."""
        for line in self._quiet_lines():
            line.quiet_since = self.now if line.quiet_since is None else line.quiet_since
        for line in list(self.broker.lines):
            if line.quiet_since is not None and self.now - line.quiet_since >= KEEPALIVE_MS:
                self.broker.cut(line)
                self.silent.discard(line)

    def _quiet_lines(self) -> Iterator[Line]:
        frozen = [worker for worker in self.living if worker.frozen]
        of_frozen = {line for worker in frozen for line in (worker.main, worker.intake)}
        if self.hub is not None and self.hub.frozen:
            of_frozen.add(self.hub.line)
        for line in self.broker.lines:
            if not line.client_believes or line in self.silent or line in of_frozen:
                yield line
            else:
                line.quiet_since = None

    # -- what people do --------------------------------------------------------------------------------------------

    def spec(self, *, idempotent: bool, kind: str = COMMON, tries: int = 1, expires: bool = False) -> TaskSpec:
        return TaskSpec(
            kind=kind,
            idempotent=idempotent,
            retry=Retry(max_attempts=tries),
            expires_in_seconds=20.0 if expires else None,
        )

    def submit(self, spec: TaskSpec, pinned: str | None = None) -> None:
        """Post a task to the hub."""
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
        self.broker.route(Letter(address, json.dumps(body).encode()), publisher="anybody")

    def act(self, task: Task, action: Action) -> None:
        """Do to a task what a person can."""
        if self.hub is not None:
            self.witness.on_action(task, action)
            self.hub.act(task.id, action)

    def executing(self) -> list[tuple[Worker, Ref]]:
        """Return what runs, and may come to its end."""
        return [(worker, ref) for worker in self.living if not worker.frozen for ref in sorted(worker.runner.executing)]

    # -- the end ---------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Mend everything, let every task come to its end, and see that everything comes to rest."""
        self.witness.story.tell("everything heals")
        self.broker.up = True
        self.silent.clear()
        self.start_hub()
        for process in (self.hub, *self.living):
            if process is not None:
                process.frozen = False
        end = self.now + HEALING_MS
        while self.now < end and not self._heal_on():
            self.pass_time(2_000)
        self.witness.judge_the_end()

    def _heal_on(self) -> bool:
        """Do what can be done now; tell whether that was all."""
        for name in NAMES:
            self.start_worker(name)
        self.settle()
        for worker, ref in self.executing():
            worker.runner.finish(ref, Outcome.SUCCEEDED)
        self.settle()
        return self.witness.at_rest()
