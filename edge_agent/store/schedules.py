"""What the hub has pushed to be fired here, and how far each job has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import to_json

from broker.messages import NO_REVISION, Schedules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from edge_agent.store.database import Transaction

_SAVE = """
    INSERT INTO schedule_marks (job, version, base, task) VALUES (?, ?, ?, ?)
    ON CONFLICT (job) DO UPDATE SET version = excluded.version, base = excluded.base, task = excluded.task
"""


class KeptMark(NamedTuple):
    """How far a job has come: all that was planned up to `base` milliseconds is decided; `task` is its last run."""

    job: str
    version: str
    base: int
    task: str | None


def marks(transaction: Transaction) -> dict[str, KeptMark]:
    """Return how far each job has come."""
    rows = transaction.execute("SELECT job, version, base, task FROM schedule_marks")
    return {row[0]: KeptMark(*row) for row in rows}


def save_marks(transaction: Transaction, kept: Iterable[KeptMark]) -> None:
    """Keep how far jobs have come."""
    transaction.executemany(_SAVE, kept)


def forget_others(transaction: Transaction, jobs: Collection[str]) -> None:
    """Forget all jobs but these."""
    known = [job for (job,) in transaction.execute("SELECT job FROM schedule_marks")]
    gone = [(job,) for job in known if job not in jobs]
    if gone:
        transaction.executemany("DELETE FROM schedule_marks WHERE job = ?", gone)


def keep_pushed(transaction: Transaction, pushed: Schedules) -> None:
    """Keep what the hub has pushed, in the place of what it pushed before."""
    transaction.execute("DELETE FROM pushed_schedules")
    if pushed.jobs:
        jobs = to_json(pushed.jobs, by_alias=True, exclude_none=True).decode()
        transaction.execute("INSERT INTO pushed_schedules (revision, jobs) VALUES (?, ?)", (pushed.revision, jobs))


def pushed(transaction: Transaction) -> Schedules:
    """Return what the hub has pushed. Raises `ValueError` where it cannot be read: another release has kept it."""
    row = transaction.execute("SELECT revision, jobs FROM pushed_schedules").fetchone()
    if row is None:
        return Schedules(revision=NO_REVISION)
    revision, jobs = row
    return Schedules.model_validate_json(f'{{"revision":{to_json(revision).decode()},"jobs":{jobs}}}')
