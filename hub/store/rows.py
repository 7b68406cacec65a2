"""How tasks and attempts are rows: read into tuples, and written as the tuples that they are.

A task and an attempt are tuples in the order of their columns, and go to the driver as they are: SQLAlchemy makes each
statement once, and does not look at every row.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json
from sqlalchemy import bindparam
from sqlalchemy.dialects.sqlite import insert

from hub.rules.task import Attempt, AttemptState, Candidate, Task, TaskState
from hub.store.schema import attempts, tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Connection, Dialect, Table

TASK_COLUMNS = tuple(tasks.c[name] for name in Task._fields)
ATTEMPT_COLUMNS = tuple(attempts.c[name] for name in Attempt._fields)

_TASK_STATES = {state.value: state for state in TaskState}
_ATTEMPT_STATES = {state.value: state for state in AttemptState}


def to_task(row: Sequence[Any]) -> Task:
    """Return a row that begins with `TASK_COLUMNS` as a task."""
    task = Task._make(row[: len(TASK_COLUMNS)])
    return task._replace(
        state=_TASK_STATES[task.state], result=_from_text(task.result), offered_to=_candidates(task.offered_to)
    )


def to_attempt(row: Sequence[Any]) -> Attempt:
    """Return a row that begins with `ATTEMPT_COLUMNS` as an attempt."""
    attempt = Attempt._make(row[: len(ATTEMPT_COLUMNS)])
    return attempt._replace(state=_ATTEMPT_STATES[attempt.state], result=_from_text(attempt.result))


def write_tasks(connection: Connection, written: Iterable[Task]) -> None:
    """Write tasks, new or known."""
    _upsert(connection, tasks, Task._fields, ("id",), [_task_row(task) for task in written])


def write_attempts(connection: Connection, written: Iterable[tuple[str, Attempt]]) -> None:
    """Write attempts, new or known, each with its task's id."""
    rows = [(task_id, *_attempt_row(attempt)) for task_id, attempt in written]
    _upsert(connection, attempts, ("task", *Attempt._fields), ("task", "number", "worker"), rows)


def _task_row(task: Task) -> tuple[Any, ...]:
    if task.result is None and task.offered_to is None:
        return task
    return task._replace(result=_to_text(task.result), offered_to=_to_text(task.offered_to))  # type: ignore[arg-type]


def _attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    return attempt if attempt.result is None else attempt._replace(result=_to_text(attempt.result))


def _upsert(
    connection: Connection,
    table: Table,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    rows: list[tuple[Any, ...]],
) -> None:
    if rows:
        statement, in_order = _upsert_statement(connection.dialect, table, columns, key)
        connection.exec_driver_sql(statement, [in_order(row) for row in rows])


@cache
def _upsert_statement(
    dialect: Dialect, table: Table, columns: tuple[str, ...], key: tuple[str, ...]
) -> tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
    """Return the statement that writes one row, new or known, and what puts a row of `columns` in its order."""
    statement = insert(table).values({name: bindparam(name) for name in columns})
    update = {name: statement.excluded[name] for name in columns if name not in key}
    compiled = statement.on_conflict_do_update(index_elements=key, set_=update).compile(dialect=dialect)
    return str(compiled), itemgetter(*(columns.index(name) for name in compiled.positiontup or ()))


def _candidates(text: Any) -> dict[str, Candidate] | None:  # noqa: ANN401  JSON
    """Return who was offered a task. The first release kept a session for each worker, which tells us nothing now."""
    offered = _from_text(text)
    if offered is None:
        return None
    return {worker: Candidate(*one) if isinstance(one, list) else Candidate() for worker, one in offered.items()}


def _to_text(value: object) -> str | None:
    return None if value is None else to_json(value).decode()


def _from_text(text: Any) -> Any:  # noqa: ANN401  JSON
    return None if text is None else from_json(text)
