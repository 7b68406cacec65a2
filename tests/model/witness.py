"""Who stands outside, sees everything, and compares it with the promises (docs/faults.md)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from broker.messages import Message, TaskEvent, TaskFinished
from hub.rules.task import ENDED, HELD, AttemptState, TaskState
from tests.model.broker import Letter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker.messages import Event
    from edge_agent.rules.attempts import Ref
    from hub.rules.task import Case, Task
    from tests.model.hub import Change
    from tests.model.worker import Disk, Worker
    from tests.model.world import World

_NOISE = {
    "at", "version", "slots", "kinds", "heartbeat_interval_seconds", "session_expiry_seconds", "written_bytes_today",
    "cpu_percent", "memory_bytes", "disk_free_bytes", "queued", "boot",
}  # fmt: skip
LIVE = frozenset({AttemptState.ASSIGNED, AttemptState.ACCEPTED, AttemptState.RUNNING})
_END_OF = {"interrupted": TaskState.FAILED}


class Broken(AssertionError):
    """A promise was broken. Its text is the story of how."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run of an attempt began."""

    attempt: int
    worker: str
    boot: str
    at: int


class Witness:
    """What was seen, and what must hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._story: list[tuple[int, str, tuple[object, ...]]] = []
        self.begun: defaultdict[str, list[Begun]] = defaultdict(list)
        self.told: defaultdict[tuple[str, str], dict[int, Event]] = defaultdict(dict)
        self.ever_told: defaultdict[tuple[str, str], defaultdict[int, list[Event]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.applied: defaultdict[tuple[str, str], dict[int, Event]] = defaultdict(dict)
        self.evicted: set[tuple[str, str, int]] = set()
        self.ends: dict[tuple[str, int, str], set[str]] = defaultdict(set)
        self.idempotent: dict[str, bool] = {}
        self.may_begin: Counter[str] = Counter()
        self.excuses: dict[str, str] = {}
        self._whereabouts: defaultdict[str, set[str]] = defaultdict(set)
        self.injected: set[str] = set()
        self._marks: dict[tuple[str, str], int] = {}

    # -- the story -------------------------------------------------------------------------------------------------------

    def tell(self, text: str, *values: object) -> None:
        self._story.append((self._world.now, text, values))

    def story(self) -> str:
        return "\n".join(
            f"{(now - 1_000_000) / 1000:9.3f}  {text % tuple(map(_short, values))}" for now, text, values in self._story
        )

    def broken(self, promise: str, task: str | None = None) -> NoReturn:
        history = f"\n\n{self.history(task)}" if task else ""
        raise Broken(f"{promise}\n\n{self.story()}{history}\n\n{promise}")

    def history(self, task: str) -> str:
        case = self._world.database.cases.get(task)
        lines = [f"{task} at the hub: {case.task if case else 'not known'}"]
        lines += [f"  {attempt}" for attempt in (case.attempts.values() if case else ())]
        lines += [f"  begun: {begun}" for begun in self.begun[task]]
        lines += [
            f"  told by {worker} in {stream}: {number} {event}"
            for (worker, stream), events in self.told.items()
            for number, event in events.items()
            if isinstance(event, TaskEvent) and event.task == task
        ]
        return "\n".join(lines)

    # -- what is seen ----------------------------------------------------------------------------------------------------

    def on_told(self, worker: Worker, events: Sequence[Event]) -> None:
        told = self.told[worker.name, worker.disk.stream]
        first = worker.disk.newest - len(events) + 1
        for number, event in enumerate(events, start=first):
            told[number] = event
            self.ever_told[worker.name, worker.disk.stream][number].append(event)
            if isinstance(event, TaskFinished):
                self.ends[event.task, event.attempt, worker.name].add(event.outcome.value)

    def on_settled(self, worker: str, stream: str, through: int) -> None:
        if self._world.database.marks.get((worker, stream), 0) < through:
            self.broken(f"{worker} forgets what the hub has not committed: {stream} up to {through}")

    def on_new_stream(self, worker: Worker) -> None:
        self.told[worker.name, worker.disk.stream].update(worker.disk.rows)
        for number, event in worker.disk.rows.items():
            self.ever_told[worker.name, worker.disk.stream][number].append(event)

    def on_evicted(self, worker: Worker, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, TaskEvent):
                self.excuses.setdefault(event.task, f"{worker.name} dropped an event of it")
            told = self.told[worker.name, worker.disk.stream]
            for number in [number for number, one in told.items() if one is event]:
                self.evicted.add((worker.name, worker.disk.stream, number))

    def on_begun(self, worker: Worker, ref: Ref) -> None:
        held = worker.running[ref].held
        before = self.begun[ref.task]
        begun = Begun(ref.attempt, worker.name, worker.boot, self._world.now)
        self.tell("%s BEGINS %s attempt %s", worker.name, ref.task, ref.attempt)
        before.append(begun)
        self.idempotent[ref.task] = held.spec.idempotent
        if not held.spec.idempotent and len(before) > 1 + self.may_begin[ref.task]:
            self.broken(f"{ref.task} may not run twice, and was begun {len(before)} times", ref.task)
        for earlier in before[:-1]:
            if earlier.attempt == ref.attempt and earlier.worker != worker.name:
                self.broken(f"two workers began attempt {ref.attempt} at {ref.task}", ref.task)
            if (earlier.attempt, earlier.boot) == (ref.attempt, worker.boot):
                self.broken(f"one run of {worker.name} began attempt {ref.attempt} at {ref.task} twice", ref.task)

    def on_applied(self, worker: str, stream: str, events: Iterable[tuple[int, Event]]) -> None:
        applied = self.applied[worker, stream]
        told = self.ever_told[worker, stream]
        for number, event in events:
            if applied and number <= next(reversed(applied)):
                self.broken(f"event {number} of {worker} was applied twice, or too late")
            if event not in told[number]:
                self.broken(f"event {number} of {worker} is not the one that it told")
            applied[number] = event

    def on_sent(self, task: Task) -> None:
        self.tell("the hub sends %s attempt %s to %s", task.id, task.attempt, task.worker)

    def on_committed(self, changes: Iterable[Change]) -> None:
        for before, after in changes:
            self.tell("  %s is %s (attempt %s, %s): %s", after.id, after.state, after.attempt, after.worker, after.reason)
            self._note_whereabouts(after)
            self._explain(before, self._world.database.cases[after.id])
        for mark, through in self._world.database.marks.items():
            if through < self._marks.get(mark, 0):
                self.broken(f"the mark of {mark} went back")
            self._marks[mark] = through

    def _note_whereabouts(self, task: Task) -> None:
        """Note on which disks the hub believes a task to be; excuse an `unknown` where one of them is gone."""
        hub = self._world.hub
        if hub is None:
            return
        for name in (*(task.offered_to or ()), *((task.worker,) if task.worker else ())):
            birth = hub.known[name].birth if name in hub.known else None
            if birth:
                self._whereabouts[task.id].add(birth.journal.stream)
        if self._whereabouts[task.id] - {disk.stream for disk in self._world.disks.values()}:
            self.excuses.setdefault(task.id, "it was sent to a disk that is gone")

    def on_disk_lost(self, name: str) -> None:
        """Note which tasks this worker may have had: of those nobody can know."""
        for case in self._world.database.cases.values():
            if case.task.state not in ENDED and (
                name in (case.task.offered_to or ())
                or name == case.task.worker
                or any(worker == name for _, worker in case.attempts)
            ):
                self.excuses.setdefault(case.task.id, f"{name} lost its disk")
        for task in self.injected - self._world.database.cases.keys():
            self.excuses.setdefault(task, f"{name} lost its disk")
        for ref in self._world.disks[name].inbox:
            self.excuses.setdefault(ref.task, f"{name} lost its disk")

    def on_rewound(self, name: str, disk: Disk) -> None:
        """What it began since then it may begin again: it cannot know."""
        self.told[name, disk.stream] = {
            number: event for number, event in self.told[name, disk.stream].items() if number <= disk.newest
        }
        for task, begun in self.begun.items():
            if any(one.worker == name for one in begun):
                self.may_begin[task] += 1

    # -- what must hold --------------------------------------------------------------------------------------------------

    def _explain(self, before: Task | None, case: Case) -> None:
        task = case.task
        current = case.attempts.get((task.attempt, task.worker or ""))
        if before is not None and before.state in ENDED and task.state not in ENDED:
            self.broken(f"{task.id} had ended as {before.state}, and is {task.state}", task.id)
        if before is not None and before.state is TaskState.SUCCEEDED is not task.state:
            self.broken(f"{task.id} had succeeded, and is {task.state}", task.id)
        if task.state in HELD and (current is None or current.state not in LIVE or current.superseded):
            self.broken(f"{task.id} is {task.state}, and its attempt is {current}", task.id)
        if task.state is TaskState.PENDING and task.worker is not None:
            self.broken(f"{task.id} is pending, and at {task.worker}", task.id)
        if task.state is TaskState.UNKNOWN and not task.reason:
            self.broken(f"{task.id} is unknown, and nobody says why", task.id)
        if task.state is TaskState.UNKNOWN and task.idempotent and task.cancel_ms is None:
            self.broken(f"{task.id} may run twice, and is unknown", task.id)
        if task.state in ENDED and task.worker is not None:
            told = {
                _END_OF.get(outcome, TaskState(outcome) if outcome != "interrupted" else TaskState.FAILED)
                for (one, _, worker), outcomes in self.ends.items()
                if one == task.id and worker == task.worker
                for outcome in outcomes
            }
            if task.state not in told:
                self.broken(f"{task.id} is {task.state} by {task.worker}, which has not said so", task.id)

    def look(self) -> None:
        """Look at a world in which nothing moves."""
        hub = self._world.hub
        if hub is None or not hub.writer.idle or hub.frozen:
            return
        leased = {lease.task: lease for name in hub.known for lease in hub.waiting.leases.of(name)}
        for case in self._world.database.cases.values():
            task = case.task
            lease = leased.pop(task.id, None)
            if (task.state in HELD) is not (lease is not None):
                self.broken(f"{task.id} is {task.state}, and its lease is {lease}", task.id)
            if lease is not None and (lease.attempt, lease.worker) != (task.attempt, task.worker):
                self.broken(f"{task.id} is at {task.worker}, and its lease is {lease}", task.id)
            waits = task.id in hub.waiting.backlog or hub.waiting.is_delayed(task.id) or hub.waiting.offer(task.id)
            if (task.state is TaskState.PENDING) is not bool(waits):
                self.broken(f"{task.id} is {task.state}, and waits nowhere, or should not wait", task.id)
        if leased:
            self.broken(f"leases of tasks that nobody knows: {leased}")

    # -- the end ---------------------------------------------------------------------------------------------------------

    def at_rest(self) -> bool:
        """Tell whether every task has come to an end, and nothing is left to be told."""
        tasks = [case.task for case in self._world.database.cases.values()]
        return all(self._may_rest(task) for task in tasks) and all(
            not disk.rows and not disk.inbox for disk in self._world.disks.values()
        )

    def _may_rest(self, task: Task) -> bool:
        if task.state is TaskState.PENDING:
            runs_at = [name for name in self._world.workers if task.kind in self._world.kinds_of(name)]
            return task.pinned is not None and task.pinned not in runs_at
        return task.state in ENDED or task.state is TaskState.UNKNOWN

    def judge_the_end(self) -> None:
        """Judge a world that was healed, and had time."""
        for name, disk in self._world.disks.items():
            if disk.inbox:
                self.broken(f"{name} still holds {list(disk.inbox)}", next(iter(disk.inbox)).task)
            if disk.rows:
                self.broken(f"{name} still has {disk.rows} to tell")
            told, applied = self.told[name, disk.stream], self.applied[name, disk.stream]
            for number, event in told.items():
                if (name, disk.stream, number) not in self.evicted and applied.get(number) != event:
                    self.broken(f"event {number} of {name} never arrived: {event}")
        for case in self._world.database.cases.values():
            task = case.task
            if task.state is TaskState.UNKNOWN and task.id not in self.excuses and task.expires_ms is None:
                self.broken(f"{task.id} is unknown, and nobody lost anything", task.id)
            if not self._may_rest(task):
                self.broken(f"{task.id} is {task.state}, and will never end", task.id)


def _short(value: object) -> object:
    """Say a letter, or an event, in the words that matter."""
    if isinstance(value, Letter):
        body = value.body
        said = _fields(body) if isinstance(body, Message) else body.decode() if isinstance(body, bytes) else body
        return f"{'retained ' if value.retained else ''}{type(value.address).__name__} {said}"
    return value


def _fields(message: Message) -> str:
    told = message.model_dump(mode="json", exclude_defaults=True, exclude=_NOISE)
    return f"{type(message).__name__} {told}"
