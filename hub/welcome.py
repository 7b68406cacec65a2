"""The hub's answer to a hello (DESIGN §5): where the worker's journal goes on, and what it must not hold any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.messages import Dropped, Gap, Sync
from hub.rules.task import ENDED, Case
from hub.store import cases
from hub.store.reports import add_reports, advance, committed_through
from hub.store.workers import save_worker

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from broker.messages import Birth, TaskRef
    from hub.store.workers import WorkerRow


def welcome(connection: Connection, worker: WorkerRow, birth: Birth) -> Sync:
    """Keep a birth, and say where the worker's journal goes on and what it must not hold any more."""
    save_worker(connection, worker)
    journal = birth.journal
    through = committed_through(connection, worker.id, journal.stream)
    if journal.oldest > through + 1:
        through = _skip_what_is_gone(connection, worker.id, birth, through)
    return Sync(
        session=birth.session,
        stream=journal.stream,
        committed_through=through,
        drop=_superseded(connection, worker.id, birth.held),
    )


def _skip_what_is_gone(connection: Connection, worker: str, birth: Birth, through: int) -> int:
    """Go on behind events that are gone (dropped, or in another database), and record that they are missing."""
    journal = birth.journal
    missing = journal.oldest - 1 - through
    gap = Gap(
        at=birth.at,
        dropped=Dropped.EVERYTHING,
        count=missing,
        first_at=birth.at,
        last_at=birth.at,
        reason="the worker no longer has them",
    )
    add_reports(connection, worker, journal.stream, [(through + 1, gap)])
    advance(connection, worker, journal.stream, journal.oldest - 1)
    return journal.oldest - 1


def _superseded(connection: Connection, worker: str, held: tuple[TaskRef, ...]) -> tuple[TaskRef, ...]:
    known = cases.load(connection, {ref.task for ref in held})
    return tuple(ref for ref in held if ref.task in known and not _may_go_on(known[ref.task], ref, worker))


def _may_go_on(case: Case, ref: TaskRef, worker: str) -> bool:
    task = case.task
    if task.state in ENDED or ref.attempt < task.attempt:
        return False
    return task.worker in (None, worker)
