"""Puts tasks in, and moves them: each function is a piece of work for the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from broker.messages import assignment_json
from hub.rules import life
from hub.rules.task import ENDED, Case, Task, TaskState
from hub.store import cases
from hub.store.schema import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from hub.rules.placement import Placed
    from hub.store.cases import Change


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


def assign(connection: Connection, placed: Sequence[Placed], now: int) -> tuple[list[Change], list[Sent]]:
    """Give each task that is still pending to its worker, as its next attempt."""
    before = cases.load(connection, {one.task for one in placed})
    after = dict(before)
    for one in placed:
        case = before.get(one.task)
        if case is not None and case.task.state is TaskState.PENDING:
            after[one.task] = life.assign(case, one.worker, now)
    changes = cases.save(connection, before, after)
    return changes, [_sent(change.after) for change in changes]


def again(connection: Connection, ids: Iterable[str]) -> list[Sent]:
    """Return the assignments of these tasks once more, as they stand."""
    return [_sent(case.task) for case in cases.load(connection, ids).values() if case.task.state is TaskState.ASSIGNED]


def move(connection: Connection, rules: Mapping[str, life.Rule]) -> list[Change]:
    """Apply to each of these tasks its rule of life."""
    before = cases.load(connection, rules)
    after = {task_id: rules[task_id](case) for task_id, case in before.items()}
    return cases.save(connection, before, after)


def offered(task: Task, candidates: dict[str, str]) -> Task:
    """Return a new task as one of `candidates` should accept it: the first attempt is theirs."""
    return task._replace(attempt=1, offered_to=candidates)


def withdraw_offer(case: Case) -> Case:
    """Stop waiting for a worker to accept what it was offered: from now on the hub places it."""
    if case.task.state is not TaskState.PENDING or case.task.offered_to is None:
        return case
    return Case(case.task._replace(offered_to=None), case.attempts)


def unended(connection: Connection) -> list[Task]:
    """Return every task that has not ended, oldest first: what a hub takes up when it starts."""
    query = select(*cases.TASK_COLUMNS).where(tasks.c.state.not_in(list(ENDED))).order_by(tasks.c.seq)
    return [cases.to_task(row) for row in connection.execute(query)]


def _sent(task: Task) -> Sent:
    if task.worker is None:
        msg = f"{task.id} is assigned to nobody"
        raise AssertionError(msg)
    return Sent(task.worker, assignment_json(task.spec, task.id, task.attempt, task.reply))
