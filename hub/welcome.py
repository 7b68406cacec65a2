"""The hub's answer to a hello (DESIGN §5): where the worker's journal goes on, what must stop, and what is sent again.

One piece of work for the ledger. What becomes of each task is decided in `hub.rules.hello`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.messages import Assignment, Dropped, Gap, Sync, TaskRef
from hub.rules import hello
from hub.rules.hello import Memory
from hub.rules.kept import Report
from hub.store import cases
from hub.store.reports import add_reports, advance, mark_of
from hub.store.streams import greet, last_stream
from hub.store.tasks import assignment_of, at_worker
from hub.store.workers import save_worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from broker.messages import Birth
    from hub.rules.task import Case
    from hub.store.cases import Change
    from hub.store.workers import WorkerRow

MAX_SENT_BYTES = 128 * 1024
"""How much a sync sends again. What is beyond is not accepted in time, and sent or placed anew then."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a hello came to: true once its transaction is committed.

    Attributes:
        sync: The answer; credit and clock are not the ledger's.
        changes: The tasks that it moved.

    """

    sync: Sync
    changes: list[Change]


def welcome(connection: Connection, worker: WorkerRow, birth: Birth, now: int) -> Welcome:
    """Keep a birth, and answer it."""
    save_worker(connection, worker)
    memory = _compare(connection, worker.id, birth, now)
    through = mark_of(connection, worker.id, birth.journal.stream).through
    held: defaultdict[str, set[int]] = defaultdict(set)
    for ref in birth.held:
        held[ref.task].add(ref.attempt)
    before = cases.load(connection, {*held, *at_worker(connection, worker.id)})
    synced = through >= birth.journal.newest
    answers = {
        task: hello.answer(case, worker.id, held.get(task, ()), memory, now, synced=synced)
        for task, case in before.items()
    }
    changes = cases.save(connection, before, {task: one.case for task, one in answers.items()})
    sync = Sync(
        session=birth.session,
        stream=birth.journal.stream,
        committed_through=through,
        drop=tuple(TaskRef(task=task, attempt=number) for task, one in answers.items() for number in one.drop),
        send=_assignments(one.case for one in answers.values() if one.send),
    )
    return Welcome(sync, changes)


def _compare(connection: Connection, worker: str, birth: Birth, now: int) -> Memory:
    """Find out whether worker or hub has lost what the other was told; record what is missing."""
    journal = birth.journal
    memory = Memory.WHOLE
    last = last_stream(connection, worker, journal.stream)
    mark = mark_of(connection, worker, journal.stream)
    if mark.through < journal.settled:
        memory = Memory.HUBS_LOST
        missing = journal.settled - mark.through
        gap = _gap(now, f"{memory.value}, after event {mark.through}", missing)
        add_reports(connection, worker, journal.stream, [Report(mark.through + 1, gap, 0)])
        advance(connection, worker, journal.stream, journal.settled)
    if last is not None and last.name != journal.stream:
        memory = Memory.WORKERS_LOST
        gap = _gap(now, f"a new journal: what the last one held after event {last.through} did not arrive")
        add_reports(connection, worker, journal.stream, [Report(0, gap, 0)])
    if last is None or last.name != journal.stream or memory:
        greet(connection, worker, journal.stream)
    return memory


def _gap(now: int, reason: str, count: int | None = None) -> Gap:
    return Gap(at=now, dropped=Dropped.EVERYTHING, count=count, last_at=now, reason=reason)


def _assignments(wanted: Iterable[Case]) -> tuple[Assignment, ...]:
    sent: list[Assignment] = []
    size = 0
    for case in wanted:
        text = assignment_of(case.task)
        size += len(text.encode())
        if size > MAX_SENT_BYTES and sent:
            break
        sent.append(Assignment.model_validate_json(text))
    return tuple(sent)
