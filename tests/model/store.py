"""The hub's database as plain values, and what takes the place of its SQL, its clock and its log.

The model runs the hub's own parts: all that they await is the ledger. So only the few functions that speak SQL are
replaced, while `on_values` lasts, by ones that take a `Database` for their connection.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from broker import clock
from broker.messages import Gap
from hub.rules import batches, pacing
from hub.rules.hello import Memory
from hub.rules.presence import Presence
from hub.rules.task import ENDED, HELD, TaskState
from hub.store import audit, cases, reports, streams, tasks, workers
from hub.store.cases import Change
from hub.store.reports import Mark
from hub.store.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

    from broker.messages import AnyEvent, Batch
    from hub.rules.audit import Entry
    from hub.rules.kept import Rejection, Report
    from hub.rules.task import Case, Task
    from hub.store.workers import WorkerRow
    from tests.model.world import World

_AT_WORKER = HELD | {TaskState.UNKNOWN}


@dataclass(slots=True)
class Database:
    """All that outlives a crash of the hub. No case is ever changed in place, so a copy is a snapshot."""

    cases: dict[str, Case] = field(default_factory=dict)
    marks: dict[tuple[str, str], int] = field(default_factory=dict)
    greeted: dict[str, str] = field(default_factory=dict)
    workers: dict[str, WorkerRow] = field(default_factory=dict)
    reports: list[tuple[str, str, Report]] = field(default_factory=list)

    def copy(self) -> Database:
        return Database(dict(self.cases), dict(self.marks), dict(self.greeted), dict(self.workers), list(self.reports))

    def execute(self, *_: object) -> None:
        """Take the SQL of what no rule reads: who did what to a task."""


@dataclass(slots=True)
class Stage:
    """The world that is being played. There is one at a time."""

    world: World | None = None

    @property
    def now(self) -> int:
        return self._world.now

    @property
    def _world(self) -> World:
        assert self.world is not None
        return self.world

    def on_committed(self, changes: Sequence[Change]) -> None:
        if self.world is not None:
            self.world.witness.on_committed(changes)

    def on_applied(self, stream: str, events: Iterable[tuple[int, AnyEvent]]) -> None:
        if self.world is not None:
            self.world.witness.on_applied(stream, events)

    def new_id(self) -> str:
        return self._world.new_id("task")


STAGE = Stage()


def load(database: Database, ids: Iterable[str]) -> dict[str, Case]:
    return {one: database.cases[one] for one in dict.fromkeys(ids) if one in database.cases}


def save(database: Database, before: Mapping[str, Case], after: Mapping[str, Case]) -> list[Change]:
    changes = []
    for task, case in after.items():
        old = before.get(task)
        if old is None or old.task is not case.task:
            changes.append(Change(old.task if old else None, case.task))
        database.cases[task] = case
    STAGE.on_committed(changes)
    return changes


def at_worker(database: Database, worker: str) -> list[str]:
    return [
        case.task.id for case in database.cases.values() if case.task.worker == worker and case.task.state in _AT_WORKER
    ]


def on_offer_to(database: Database, worker: str) -> list[str]:
    return [
        case.task.id
        for case in database.cases.values()
        if case.task.state is TaskState.PENDING and worker in (case.task.offered_to or ())
    ]


def unended(database: Database) -> list[Task]:
    return [case.task for case in database.cases.values() if case.task.state not in ENDED]


def mark_of(database: Database, worker: str, stream: str) -> Mark:
    return Mark(database.marks.get((worker, stream), 0))


def advance(database: Database, worker: str, stream: str, through: int, *, boot: str | None = None) -> None:
    del boot  # in a world with one clock
    database.marks[worker, stream] = through


def add_reports(database: Database, worker: str, stream: str, rows: Sequence[Report]) -> None:
    database.reports += [(worker, stream, row) for row in rows]


def add_rejections(database: Database, rows: Sequence[Rejection]) -> None:
    del database, rows


def write_audit(database: Database, *entries: Entry) -> None:
    del database, entries


def last_stream(database: Database, worker: str, stream: str) -> Stream | None:
    last = database.greeted.get(worker)
    known = [one for name, one in database.marks if name == worker]
    if last is None and known:
        last = stream if stream in known else known[0]
    return None if last is None else Stream(last, database.marks.get((worker, last), 0))


def greet(database: Database, worker: str, stream: str) -> None:
    database.greeted[worker] = stream
    database.marks.setdefault((worker, stream), 0)


def save_workers(database: Database, rows: Iterable[WorkerRow]) -> None:
    for row in rows:
        database.workers[row.id] = row


def save_worker(database: Database, worker: WorkerRow) -> None:
    save_workers(database, [worker])


def load_workers(database: Database) -> list[WorkerRow]:
    """Return the workers with as much of their presence as the table keeps."""
    return [row._replace(presence=_as_kept(row.presence)) for row in database.workers.values()]


def _as_kept(known: Presence) -> Presence:
    return Presence(
        state=known.state,
        reason=known.reason,
        since_ms=known.since_ms,
        session=known.session,
        last_seen_ms=known.last_seen_ms,
        waiting_since_ms=known.last_seen_ms,
        interval_ms=known.interval_ms,
    )


def _fresh(batch: Batch, mark: int) -> list[tuple[int, AnyEvent]]:
    """Apply the rule, and tell the witness: what is fresh is applied in the same transaction."""
    events = batches.fresh(batch, mark)
    STAGE.on_applied(batch.stream, events)
    return events


def _pacing() -> pacing.Pacing:
    """Pace what is short here, so that a schedule has some."""
    return pacing.Pacing(budget=3, share=2)


class _Silence:
    """A log that nobody reads."""

    def __getattr__(self, _: str) -> Any:  # noqa: ANN401
        return self._hear

    def _hear(self, *_: object, **__: object) -> None:
        pass


_REPLACED: tuple[tuple[object, object], ...] = (
    (clock.now_ms, lambda: STAGE.now),
    (clock.new_id, STAGE.new_id),
    (cases.load, load),
    (cases.save, save),
    (tasks.at_worker, at_worker),
    (tasks.on_offer_to, on_offer_to),
    (tasks.unended, unended),
    (reports.mark_of, mark_of),
    (reports.advance, advance),
    (reports.add_reports, add_reports),
    (reports.add_rejections, add_rejections),
    (audit.write, write_audit),
    (streams.last_stream, last_stream),
    (streams.greet, greet),
    (workers.save_worker, save_worker),
    (workers.save_workers, save_workers),
    (workers.load_workers, load_workers),
    (batches.fresh, _fresh),
    (pacing.Pacing, _pacing),
)


def _replacements() -> Iterator[tuple[ModuleType, str, object]]:
    """Find each place in the hub that knows one of these by a name."""
    instead = {id(old): new for old, new in _REPLACED}
    for name, module in list(sys.modules.items()):
        if name.startswith("hub.") and not name.startswith("hub.rules."):
            for known_as, value in list(vars(module).items()):
                if id(value) in instead:
                    yield module, known_as, instead[id(value)]
                elif known_as == "log":
                    yield module, known_as, _Silence()
    yield pacing, "BATCH_EVENTS", 4


@contextlib.contextmanager
def on_values() -> Iterator[None]:
    """Let the hub run on a `Database`, by the clock of the world that is played."""
    with contextlib.ExitStack() as stack:
        for module, name, new in _replacements():
            stack.enter_context(patch.object(module, name, new))
        yield


@dataclass(slots=True)
class GapsTold:
    """How many events are told to be missing, by stream: by its worker, of each class, and by the hub."""

    workers: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    hubs: Counter[str] = field(default_factory=Counter)


def gaps_of(database: Database) -> GapsTold:
    """Return what the hub can tell of missing events."""
    told = GapsTold()
    for _, stream, (_, event, _) in database.reports:
        if not isinstance(event, Gap) or event.count is None:
            continue
        if event.reason.startswith(Memory.HUBS_LOST):
            told.hubs[stream] += event.count
        else:
            told.workers[stream][event.dropped] += event.count
    return told
