"""Who stands outside, sees everything, and compares it with the promises (docs/faults.md)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from broker.messages import Outcome, TaskEvent, TaskFinished
from edge_agent.rules.eviction import Class, class_of, losses_of
from hub.rules.actions import Cancel, Retry
from hub.rules.ends import TASK_END
from hub.rules.task import ENDED, HELD, AttemptState, TaskState
from tests.model.store import gaps_of
from tests.model.story import Story

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker.messages import Event
    from edge_agent.rules.attempts import Held
    from hub.rules.actions import Action
    from hub.rules.task import Case, Task
    from hub.store.cases import Change
    from tests.model.disk import Disk
    from tests.model.store import Database, GapsTold
    from tests.model.worker import Worker
    from tests.model.world import World

LIVE = frozenset({AttemptState.ASSIGNED, AttemptState.ACCEPTED, AttemptState.RUNNING})
WORTH_ANOTHER = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED})


class Broken(AssertionError):
    """A promise was broken. Its text is the story of how."""


class Begun(NamedTuple):
    """A run of an attempt began."""

    attempt: int
    worker: str
    boot: str


class Attempt(NamedTuple):
    """One worker's try at a task."""

    task: str
    number: int
    worker: str


class Witness:
    """What was seen, and what must hold.

    Attributes:
        begun: The runs of each task, in order.
        told: What each stream holds, by number: the last meaning, since a disk that was rewound gives numbers anew.
        ever_told: Every meaning that a number of a stream ever had.
        applied: What the hub has committed of each stream.
        evicted: What was dropped of each stream.
        lost: Attempts on which the hub has given up at some time.
        excuses: Why a task may be unknown.
        may_begin: How often a task may begin again, since somebody asked for it, or a memory is gone.

    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.story = Story(world)
        self.begun: defaultdict[str, list[Begun]] = defaultdict(list)
        self.told: defaultdict[str, dict[int, Event]] = defaultdict(dict)
        self.ever_told: defaultdict[str, defaultdict[int, list[Event]]] = defaultdict(lambda: defaultdict(list))
        self.applied: defaultdict[str, dict[int, Event]] = defaultdict(dict)
        self.evicted: defaultdict[str, dict[int, Event]] = defaultdict(dict)
        self.ends: defaultdict[Attempt, set[Outcome]] = defaultdict(set)
        self.lost: set[Attempt] = set()
        self.excuses: dict[str, str] = {}
        self.may_begin: Counter[str] = Counter()
        self.injected: set[str] = set()
        self._marks: dict[tuple[str, str], int] = {}
        self._had_committed: Counter[tuple[str, str]] = Counter()
        self._boots_unheard: dict[str, int] = {}
        self._forgiven: Counter[str] = Counter()
        self._whereabouts: defaultdict[str, set[str]] = defaultdict(set)

    def broken(self, promise: str, task: str | None = None) -> NoReturn:
        history = f"\n\n{self.history(task)}" if task else ""
        raise Broken(f"{promise}\n\n{self.story}{history}\n\n{promise}")

    def history(self, task: str) -> str:
        case = self._world.database.cases.get(task)
        lines = [f"{task} at the hub: {case.task if case else 'not known'}"]
        lines += [f"  {attempt}" for attempt in (case.attempts.values() if case else ())]
        lines += [f"  {begun}" for begun in self.begun[task]]
        lines += [
            f"  {stream}: {number} {event!r}"
            for stream, events in self.told.items()
            for number, event in events.items()
            if isinstance(event, TaskEvent) and event.task == task
        ]
        return "\n".join(lines)

    # -- what workers do -------------------------------------------------------------------------------------------

    def on_told(self, worker: str, disk: Disk, events: Sequence[Event]) -> None:
        """See events written at the end of a journal."""
        stream = disk.stream
        for number, event in enumerate(events, start=disk.newest - len(events) + 1):
            self.told[stream][number] = event
            self.ever_told[stream][number].append(event)
            if isinstance(event, TaskFinished):
                self.ends[Attempt(event.task, event.attempt, worker)].add(event.outcome)

    def on_settled(self, worker: str, stream: str, through: int) -> None:
        if max(self._world.committed(worker, stream), self._had_committed[worker, stream]) < through:
            self.broken(f"{worker} forgets what the hub has not committed: {stream} up to {through}")

    def on_new_stream(self, disk: Disk) -> None:
        for number, event in disk.rows.items():
            self.told[disk.stream][number] = event
            self.ever_told[disk.stream][number].append(event)

    def on_evicted(self, worker: str, disk: Disk, rows: Iterable[tuple[int, Event]]) -> None:
        for number, event in rows:
            self.evicted[disk.stream][number] = event
            if isinstance(event, TaskEvent):
                self.excuses.setdefault(event.task, f"{worker} dropped an event of it")

    def on_begun(self, worker: Worker, held: Held) -> None:
        task, number = held.ref
        self.story.tell("%s BEGINS %s/%s", worker.name, task, number)
        begun = Begun(number, worker.name, worker.boot)
        before = self.begun[task]
        for earlier in before:
            if earlier.attempt == number and earlier.worker != worker.name and not self.may_begin[task]:
                self.broken(f"two workers began attempt {number} at {task}", task)
            if (earlier.attempt, earlier.boot) == (number, worker.boot):
                self.broken(f"one run of {worker.name} began attempt {number} at {task} twice", task)
        before.append(begun)
        runs = self._unexplained_runs(task) if held.spec.idempotent else len(before)
        if runs > 1 + self.may_begin[task]:
            what = "no attempt was lost" if held.spec.idempotent else "it may not run twice"
            self.broken(f"{task} was begun {len(before)} times, and {what}", task)

    def _unexplained_runs(self, task: str) -> int:
        """Count the runs of a task that may run twice, but those that were lost, or ended so that it is tried again."""
        tries = {Attempt(task, one.attempt, one.worker) for one in self.begun[task]}
        return sum(one not in self.lost and not self.ends[one] & WORTH_ANOTHER for one in tries)

    # -- what the hub does -----------------------------------------------------------------------------------------

    def on_applied(self, stream: str, events: Iterable[tuple[int, Event]]) -> None:
        applied, told = self.applied[stream], self.ever_told[stream]
        for number, event in events:
            if applied and number <= next(reversed(applied)):
                self.broken(f"event {number} of {stream} was applied twice, or too late")
            if event not in told[number]:
                self.broken(f"event {number} of {stream} is not the one that was told")
            applied[number] = event

    def on_committed(self, changes: Iterable[Change]) -> None:
        for before, after in changes:
            self.story.tell("  %s is %s, %s/%s: %s", after.id, after.state, after.worker, after.attempt, after.reason)
            case = self._world.database.cases[after.id]
            self._note_losses(before, case)
            self._note_whereabouts(after)
            self._look_at(before, case)
        for mark, through in self._world.database.marks.items():
            if through < self._marks.get(mark, 0):
                self.broken(f"the mark of {mark} went back")
            self._marks[mark] = through

    def _note_losses(self, before: Task | None, case: Case) -> None:
        task = case.task
        self.lost |= {
            Attempt(task.id, one.number, one.worker)
            for one in case.attempts.values()
            if one.state is AttemptState.LOST or one.superseded
        }
        if before is None or not before.offered_to:
            return
        if task.state is TaskState.PENDING and not task.offered_to:
            self.lost |= {Attempt(task.id, 1, name) for name in before.offered_to}
        if task.state is TaskState.UNKNOWN and before.expires_ms is not None and before.expires_ms <= self._world.now:
            self.excuses.setdefault(task.id, "it expired while nobody could tell who has it")
        if task.state is TaskState.UNKNOWN and any(self._has_dropped_results(name) for name in before.offered_to):
            self.excuses.setdefault(task.id, "a worker that may have had it dropped what it had to tell")

    def _has_dropped_results(self, worker: str) -> bool:
        return any(
            class_of(event) is Class.RESULTS for event in self.evicted[self._world.disks[worker].stream].values()
        )

    def _note_whereabouts(self, task: Task) -> None:
        """Note on which disks the hub believes a task to be; excuse an `unknown` where one of them is gone."""
        self._whereabouts[task.id] |= {one.stream for one in (task.offered_to or {}).values() if one.stream}
        worker = self._world.hub.fleet.get(task.worker) if self._world.hub and task.worker else None
        if worker and worker.birth:
            self._whereabouts[task.id].add(worker.birth.journal.stream)
        if self._whereabouts[task.id] - {disk.stream for disk in self._world.disks.values()}:
            self.excuses.setdefault(task.id, "it was sent to a disk that is gone")

    def on_action(self, task: Task, action: Action) -> None:
        """See a person do something: what has ended may begin again, and what is given up need not be told any more."""
        self.story.tell("somebody does %s to %s", action, task.id)
        if isinstance(action, Retry):
            self.may_begin[task.id] += 1
        elif isinstance(action, Cancel) and task.offered_to:
            self.excuses.setdefault(task.id, "somebody asked to cancel it while nobody could tell who has it")

    # -- what is taken from them -----------------------------------------------------------------------------------

    def on_disk_lost(self, name: str) -> None:
        """Note which tasks this worker may have had: of those nobody can know."""
        why = f"{name} lost its disk"
        for case in self._world.database.cases.values():
            places = {case.task.worker, *(case.task.offered_to or ()), *(worker for _, worker in case.attempts)}
            if case.task.state not in ENDED and name in places:
                self.excuses.setdefault(case.task.id, why)
        for task in self.injected - self._world.database.cases.keys():
            self.excuses.setdefault(task, why)
        for ref in self._world.disks[name].inbox:
            self.excuses.setdefault(ref.task, why)

    def on_rewound(self, name: str, disk: Disk) -> None:
        """What it began since then it may begin again: it cannot know."""
        self.told[disk.stream] = {n: event for n, event in self.told[disk.stream].items() if n <= disk.newest}
        self._boots_unheard[name] = 0
        for task, begun in self.begun.items():
            if any(one.worker == name for one in begun):
                self.may_begin[task] += 1

    def on_restored(self, backup: Database) -> None:
        """What was committed since the backup is gone, and what was sent since may run again: the hub cannot know.

        It knows that it cannot: what may not run twice and was known then does not run again by itself.
        """
        for mark, through in self._world.database.marks.items():
            self._had_committed[mark] = max(self._had_committed[mark], through)
        self._marks = dict(backup.marks)
        marks = {stream: through for (_, stream), through in backup.marks.items()}
        for stream, applied in self.applied.items():
            self.applied[stream] = {n: event for n, event in applied.items() if n <= marks.get(stream, 0)}
        for case in self._world.database.cases.values():
            if backup.cases.get(case.task.id) is not case:
                self.excuses.setdefault(case.task.id, "the hub has lost what became of it")
                if case.task.idempotent or case.task.id not in backup.cases:
                    self.may_begin[case.task.id] += 1
        for case in backup.cases.values():
            if not case.task.idempotent and case.task.state not in ENDED:
                self.excuses.setdefault(case.task.id, "the hub cannot know whether it has run")
        for task in self.injected - backup.cases.keys():
            self.may_begin[task] += 1
            self.excuses.setdefault(task, "the hub has lost that it was published")

    def on_started(self, worker: Worker) -> None:
        """See a process begin.

        On an old copy of a disk the first one finds out, when it meets a hub. If it does not live so long, what it told
        has taken numbers that the hub knows, and nobody can find out any more.
        """
        if worker.name in self._boots_unheard:
            self._boots_unheard[worker.name] += 1
            if self._boots_unheard[worker.name] > 1:
                self._forgiven[worker.disk.stream] = max(self.ever_told[worker.disk.stream], default=0)

    def on_heard(self, worker: str) -> None:
        """See a worker hear where the hub stands."""
        self._boots_unheard.pop(worker, None)

    # -- what must hold --------------------------------------------------------------------------------------------

    def _look_at(self, before: Task | None, case: Case) -> None:
        """Look at a task that was changed."""
        task = case.task
        current = case.attempts.get((task.attempt, task.worker or ""))
        if before is not None and before.state is TaskState.SUCCEEDED is not task.state:
            self.broken(f"{task.id} had succeeded, and is {task.state}", task.id)
        if before is not None and before.state in ENDED and task.state not in ENDED and not self.may_begin[task.id]:
            self.broken(f"{task.id} had ended as {before.state}, and is {task.state}", task.id)
        if task.state in HELD and (current is None or current.state not in LIVE or current.superseded):
            self.broken(f"{task.id} is {task.state}, and its attempt is {current}", task.id)
        if task.state is TaskState.PENDING and task.worker is not None:
            self.broken(f"{task.id} is pending, and at {task.worker}", task.id)
        if task.state is TaskState.UNKNOWN and not task.reason:
            self.broken(f"{task.id} is unknown, and nobody says why", task.id)
        if task.state is TaskState.UNKNOWN and task.idempotent and task.cancel_ms is None:
            self.broken(f"{task.id} may run twice, and is unknown", task.id)
        if before is not None and before.state in HELD and task.id not in self.excuses:
            self._look_at_loss(before, task)
        if task.state in ENDED and task.worker is not None and task.state not in self._told_ends(task):
            self.broken(f"{task.id} is {task.state} by {task.worker}, which has not said so", task.id)

    def _look_at_loss(self, before: Task, task: Task) -> None:
        """See that a worker of which it is said that it has lost an attempt does not hold it."""
        said = task.reason or ""
        if before.worker and ("does not hold it any more" in said or "came back without it" in said):
            held = {(ref.task, ref.attempt) for ref in self._world.disks[before.worker].inbox}
            if (before.id, before.attempt) in held:
                self.broken(f"{task.id} is {task.state}, since {said}: it does hold it", task.id)

    def _told_ends(self, task: Task) -> set[TaskState]:
        return {
            TASK_END[outcome]
            for attempt, outcomes in self.ends.items()
            if (attempt.task, attempt.worker) == (task.id, task.worker)
            for outcome in outcomes
        }

    def look(self) -> None:
        """Look at a world in which nothing moves: what the hub has in memory is what it has on its disk."""
        hub = self._world.hub
        if hub is None or hub.frozen:
            return
        waiting = hub.dispatcher.waiting
        leased = {lease.task: lease for one in hub.fleet.all() for lease in waiting.leases.of(one.id)}
        for case in self._world.database.cases.values():
            task = case.task
            lease = leased.pop(task.id, None)
            if (task.state in HELD) is not (lease is not None):
                self.broken(f"{task.id} is {task.state}, and its lease is {lease}", task.id)
            if lease is not None and (lease.attempt, lease.worker) != (task.attempt, task.worker):
                self.broken(f"{task.id} is at {task.worker}, and its lease is {lease}", task.id)
            waits = task.id in waiting.backlog or waiting.is_delayed(task.id) or waiting.offer(task.id) is not None
            if (task.state is TaskState.PENDING) is not waits:
                self.broken(f"{task.id} is {task.state}, and waits nowhere, or should not wait", task.id)
        if leased:
            self.broken(f"leases of tasks that nobody knows: {leased}")

    # -- the end ---------------------------------------------------------------------------------------------------

    def at_rest(self) -> bool:
        """Tell whether every task has come to an end, nothing is left to be told, and hub and workers have greeted."""
        tasks = [case.task for case in self._world.database.cases.values()]
        return (
            all(self._may_rest(task) for task in tasks)
            and all(not disk.rows and not disk.inbox for disk in self._world.disks.values())
            and all(worker.handshake.synced and worker.flow.open for worker in self._world.living)
        )

    def _may_rest(self, task: Task) -> bool:
        if task.state is TaskState.PENDING:
            runs_at = [name for name in self._world.workers if task.kind in self._world.kinds_of(name)]
            return task.pinned is not None and task.pinned not in runs_at
        return task.state in ENDED or (task.state is TaskState.UNKNOWN and task.id in self.excuses)

    def judge_the_end(self) -> None:
        """Judge a world that was healed, and had time."""
        told = gaps_of(self._world.database)
        for name, disk in self._world.disks.items():
            if disk.inbox:
                self.broken(f"{name} still holds {list(disk.inbox)}", next(iter(disk.inbox)).task)
            if disk.rows:
                self.broken(f"{name} still has {disk.rows} to tell")
            self._judge_stream(name, disk.stream, told)
        for worker in self._world.living:
            if not worker.handshake.synced:
                self.broken(f"{worker.name} and the hub have not greeted")
        for case in self._world.database.cases.values():
            task = case.task
            if task.state is TaskState.UNKNOWN and task.id not in self.excuses:
                self.broken(f"{task.id} is unknown, and nobody lost anything", task.id)
            if not self._may_rest(task):
                self.broken(f"{task.id} is {task.state}, and will never end", task.id)

    def _judge_stream(self, name: str, stream: str, told: GapsTold) -> None:
        """See that all that was told has arrived, and that a gap tells of all that has not."""
        applied, evicted, forgiven = self.applied[stream], self.evicted[stream], self._forgiven[stream]
        missing = {n: event for n, event in self.told[stream].items() if applied.get(n) != event and n > forgiven}
        if told.hubs[stream]:  # the hub has lost gaps as well
            if len(missing) > told.hubs[stream] + told.workers[stream].total():
                self.broken(f"events {list(missing)} of {name} are missing, and gaps tell of {told}")
            return
        if not missing.keys() <= evicted.keys():
            self.broken(f"events {sorted(missing.keys() - evicted.keys())} of {name} never arrived")
        for kind, loss in losses_of(missing.values()).by_class:
            if loss.count > told.workers[stream][kind.name.lower()]:
                self.broken(f"{name} dropped {loss.count} {kind.name.lower()}, and gaps tell of {told}")
