"""Loads and saves tasks with their attempts, many at a time: the hub's hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, select

from hub.rules.task import Case, Task
from hub.store import rows
from hub.store.parents import follow
from hub.store.schema import attempts, tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

    from hub.rules.task import Attempt

_LOAD_TASKS = select(*rows.TASK_COLUMNS).where(tasks.c.id.in_(bindparam("ids", expanding=True)))
_LOAD_ATTEMPTS = select(*rows.ATTEMPT_COLUMNS, attempts.c.task).where(
    attempts.c.task.in_(bindparam("ids", expanding=True))
)


class Change(NamedTuple):
    """A task before (None if it is new) and after a transaction."""

    before: Task | None
    after: Task


def load(connection: Connection, ids: Iterable[str]) -> dict[str, Case]:
    """Return the cases of those tasks that exist."""
    wanted = {"ids": list(ids)}
    if not wanted["ids"]:
        return {}
    found = {task.id: Case(task, {}) for task in map(rows.to_task, connection.execute(_LOAD_TASKS, wanted))}
    for row in connection.execute(_LOAD_ATTEMPTS, wanted):
        if row.task in found:
            attempt = rows.to_attempt(row)
            found[row.task].attempts[attempt.number, attempt.worker] = attempt
    return found


def save(connection: Connection, before: Mapping[str, Case], after: Mapping[str, Case]) -> list[Change]:
    """Write what differs between `before` and `after`, and return the tasks that changed.

    The parents of children that have ended, or are open again, follow them here, whoever moved those.
    """
    changes: list[Change] = []
    moved: list[tuple[str, Attempt]] = []
    for task_id, case in after.items():
        old = before.get(task_id)
        if old is None or old.task is not case.task:
            changes.append(Change(old.task if old else None, case.task))
        known = old.attempts if old else {}
        moved.extend((task_id, attempt) for key, attempt in case.attempts.items() if known.get(key) is not attempt)
    rows.write_tasks(connection, [change.after for change in changes])
    rows.write_attempts(connection, moved)
    children = [change for change in changes if change.after.parent is not None]
    if children:
        changes.extend(Change(*pair) for pair in follow(connection, children))
    return changes
