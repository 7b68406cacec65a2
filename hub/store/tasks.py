"""Puts tasks in, and moves them: each function is a piece of work for the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import from_json
from sqlalchemy import bindparam, select, text

from broker.messages import assignment_json
from hub.rules import hello, life
from hub.rules.task import ENDED, Candidate, Case, Task, TaskState
from hub.store import cases, rows
from hub.store.audit import write
from hub.store.schema import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from hub.rules.callers import Caller
    from hub.rules.placement import Placed
    from hub.store.cases import Change

# The states stand there as they do in the index: SQLite uses that for no other condition.
_AT_WORKER = select(tasks.c.id).where(
    tasks.c.worker == bindparam("worker"), text("state IN ('assigned', 'running', 'unknown')")
)
_ON_OFFER = select(tasks.c.id, tasks.c.offered_to).where(
    tasks.c.state == TaskState.PENDING.value, tasks.c.offered_to.is_not(None)
)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a task that was submitted.

    Attributes:
        task: As it stands now; the known one, where the id was known.
        created: Whether it is new.
        clash: Whether the id is known with another task behind it.

    """

    task: Task
    created: bool
    clash: bool = False


class Sent(NamedTuple):
    """An assignment that is committed and must now be published."""

    worker: str
    payload: str


def submit(connection: Connection, new: Sequence[Task]) -> tuple[list[Submitted], list[Change]]:
    """Put tasks in. A repeated id changes nothing, within `new` as well."""
    known = {task_id: case.task for task_id, case in cases.load(connection, {task.id for task in new}).items()}
    fresh: dict[str, Case] = {}
    results = []
    for task in new:
        same_id = known.get(task.id)
        if same_id is None:
            known[task.id] = task
            fresh[task.id] = Case(task)
            results.append(Submitted(task, created=True))
        else:
            results.append(Submitted(same_id, created=False, clash=same_id.digest != task.digest))
    return results, cases.save(connection, {}, fresh)


def submit_by(connection: Connection, new: Sequence[Task], by: Caller) -> tuple[list[Submitted], list[Change]]:
    """Put in tasks that somebody has posted, and keep who that was."""
    results, changes = submit(connection, new)
    created = [result.task for result in results if result.created]
    if created:
        first, *others = created
        detail = f"{len(created)} tasks, the last of them {others[-1].id}" if others else first.kind
        write(connection, by.did("task.submitted", first.id, detail))
    return results, changes


def assign(connection: Connection, placed: Sequence[Placed], now: int) -> tuple[list[Change], list[Sent]]:
    """Give each task that is still pending to its worker, as its next attempt."""
    before = cases.load(connection, {one.task for one in placed})
    after = dict(before)
    for one in placed:
        case = before.get(one.task)
        if case is not None and case.task.state is TaskState.PENDING and case.task.offered_to is None:
            after[one.task] = life.assign(case, one.worker, now)
    changes = cases.save(connection, before, after)
    return changes, [_sent(change.after) for change in changes]


def again(connection: Connection, ids: Iterable[str]) -> list[Sent]:
    """Return the assignments of these tasks once more, as they stand."""
    return [_sent(case.task) for case in cases.load(connection, ids).values() if _may_be_sent(case.task)]


def move(connection: Connection, rules: Mapping[str, life.Rule]) -> list[Change]:
    """Apply to each of these tasks its rule of life."""
    before = cases.load(connection, rules)
    after = {task_id: rules[task_id](case) for task_id, case in before.items()}
    return cases.save(connection, before, after)


def offered(task: Task, candidates: dict[str, Candidate]) -> Task:
    """Return a new task as one of `candidates` should accept it: the first attempt is theirs."""
    return task._replace(attempt=1, offered_to=candidates)


def unended(connection: Connection) -> list[Task]:
    """Return every task that has not ended, oldest first: what a hub takes up when it starts."""
    query = select(*rows.TASK_COLUMNS).where(tasks.c.state.not_in(list(ENDED))).order_by(tasks.c.seq)
    return [rows.to_task(row) for row in connection.execute(query)]


def _may_be_sent(task: Task) -> bool:
    return task.state is TaskState.ASSIGNED and task.cancel_ms is None


def at_worker(connection: Connection, worker: str) -> list[str]:
    """Return the tasks that a worker has, as far as the hub knows, or of which it alone can tell."""
    return list(connection.execute(_AT_WORKER, {"worker": worker}).scalars())


def on_offer_to(connection: Connection, worker: str) -> list[str]:
    """Return the tasks that were published to this worker, among others, and that nobody has accepted."""
    rows = connection.execute(_ON_OFFER)
    return [task for task, offered_to in rows if worker in from_json(offered_to)]


def resume(connection: Connection, worker: str) -> tuple[list[Change], list[Sent]]:
    """Give a worker once more what it had never taken, and return that as it must be sent."""
    before = cases.load(connection, at_worker(connection, worker))
    changes = cases.save(connection, before, {task: hello.resume(case, worker) for task, case in before.items()})
    return changes, [_sent(change.after) for change in changes]


def assignment_of(task: Task) -> str:
    """Return the current attempt of a task as JSON."""
    return assignment_json(task.spec, task.id, task.attempt, task.reply)


def _sent(task: Task) -> Sent:
    if task.worker is None:
        msg = f"{task.id} is assigned to nobody"
        raise AssertionError(msg)
    return Sent(task.worker, assignment_of(task))
