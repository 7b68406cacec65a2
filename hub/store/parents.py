"""Parents in the database: each follows its children within the transaction that moves those."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select, text

from hub.rules import parents as rules
from hub.rules.children import Child
from hub.rules.task import ENDED, TaskState
from hub.store import rows
from hub.store.schema import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from hub.rules.task import Task

_PARENT = select(*rows.TASK_COLUMNS).where(tasks.c.id == bindparam("parent"))
# The states stand there as they do in the index: SQLite uses that for no other condition.
_IS_OPEN = (
    select(tasks.c.seq)
    .where(tasks.c.parent == bindparam("parent"), text("state IN ('pending', 'assigned', 'running', 'unknown')"))
    .limit(1)
)
_ENDS = select(tasks.c.pinned, tasks.c.state, tasks.c.finished_ms).where(tasks.c.parent == bindparam("parent"))
_BY_WORKER = select(tasks.c.pinned, tasks.c.id, tasks.c.state).where(tasks.c.parent == bindparam("parent"))
_CHILDREN = select(tasks.c.id).where(tasks.c.parent == bindparam("parent")).order_by(tasks.c.seq)
_COUNTS = select(tasks.c.state, func.count()).where(tasks.c.parent == bindparam("parent")).group_by(tasks.c.state)


def follow(connection: Connection, children: Iterable[tuple[Task | None, Task]]) -> Iterator[tuple[Task, Task]]:
    """Let parents follow what became of their children, each before and after; yield those that move, likewise.

    Whether a child is still open is one look into an index of open children: while another is, the end of one changes
    nothing. All children of a parent are read only when none is open.
    """
    moved = [after for before, after in children if _matters(before, after)]
    opened = {child.parent for child in moved if child.state not in ENDED}
    for parent_id in dict.fromkeys(child.parent for child in moved if child.parent):
        is_open = connection.execute(_IS_OPEN, {"parent": parent_id}).first() is not None
        if is_open and parent_id not in opened:
            continue
        parent = _load(connection, parent_id)
        if parent is None:
            continue
        now = rules.reopened(parent) if is_open else rules.settled(parent, _ends(connection, parent_id))
        if now != parent:
            rows.write_tasks(connection, [now])
            yield parent, now


def children_of(connection: Connection, parent: str) -> list[str]:
    """Return the ids of a parent's children, in the order in which they were made."""
    return list(connection.execute(_CHILDREN, {"parent": parent}).scalars())


def children_by_worker(connection: Connection, parent: str) -> dict[str, Child]:
    """Return what each worker was given of a parent."""
    found = connection.execute(_BY_WORKER, {"parent": parent})
    return {worker: Child(name, TaskState(state)) for worker, name, state in found}


def count_children(connection: Connection, parent: str) -> dict[TaskState, int]:
    """Return how many children of a parent are in each state."""
    return {TaskState(state): count for state, count in connection.execute(_COUNTS, {"parent": parent})}


def _matters(before: Task | None, after: Task) -> bool:
    """Tell whether a child has ended, ended otherwise than it had, or is open again."""
    if before is None:
        return after.state in ENDED
    return before.state is not after.state and (before.state in ENDED or after.state in ENDED)


def _load(connection: Connection, parent: str) -> Task | None:
    row = connection.execute(_PARENT, {"parent": parent}).one_or_none()
    return rows.to_task(row) if row else None


def _ends(connection: Connection, parent: str) -> list[rules.End]:
    found = connection.execute(_ENDS, {"parent": parent})
    return [rules.End(worker, TaskState(state), at) for worker, state, at in found]
