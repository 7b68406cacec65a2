"""Loads and saves tasks with their attempts, many at a time."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import bindparam, insert, select, update

from hub.rules.life import Attempt, AttemptState, Case, Task, TaskState
from hub.store.schema import attempts, tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

_TASK_COLUMNS = [tasks.c[field.name] for field in fields(Task)]
_ATTEMPT_COLUMNS = [attempts.c.task, *(attempts.c[field.name] for field in fields(Attempt))]
_CHANGING = (
    "state", "reason", "attempt", "worker", "result", "error",
    "started_ms", "finished_ms", "not_before_ms", "offered_to",
)  # fmt: skip
_ATTEMPT_KEY = ("task", "number", "worker")
_ATTEMPT_CHANGING = tuple(field.name for field in fields(Attempt) if field.name not in _ATTEMPT_KEY)

_INSERT_TASK = insert(tasks)
_UPDATE_TASK = (
    update(tasks).where(tasks.c.id == bindparam("key")).values({name: bindparam(f"new_{name}") for name in _CHANGING})
)
_INSERT_ATTEMPT = insert(attempts)
_UPDATE_ATTEMPT = (
    update(attempts)
    .where(*(attempts.c[name] == bindparam(f"key_{name}") for name in _ATTEMPT_KEY))
    .values({name: bindparam(f"new_{name}") for name in _ATTEMPT_CHANGING})
)
_LOAD_TASKS = select(*_TASK_COLUMNS).where(tasks.c.id.in_(bindparam("ids", expanding=True)))
_LOAD_ATTEMPTS = select(*_ATTEMPT_COLUMNS).where(attempts.c.task.in_(bindparam("ids", expanding=True)))


class Change(NamedTuple):
    """A task before (None if it is new) and after a transaction."""

    before: Task | None
    after: Task


def load(connection: Connection, ids: Iterable[str]) -> dict[str, Case]:
    """Return the cases of those tasks that exist."""
    wanted = {"ids": list(ids)}
    if not wanted["ids"]:
        return {}
    found = {row.id: Case(to_task(row), {}) for row in connection.execute(_LOAD_TASKS, wanted)}
    for row in connection.execute(_LOAD_ATTEMPTS, wanted):
        if row.task in found:
            found[row.task].attempts[row.number, row.worker] = to_attempt(row)
    return found


def save(connection: Connection, before: Mapping[str, Case], after: Mapping[str, Case]) -> list[Change]:
    """Write what differs between `before` and `after`, and return the tasks that changed."""
    changes: list[Change] = []
    rows: dict[str, list[dict[str, Any]]] = {
        "new": [],
        "changed": [],
        "new_attempts": [],
        "changed_attempts": [],
    }
    for task_id, case in after.items():
        old = before.get(task_id)
        if old is case:
            continue
        _task_rows(old, case, rows, changes)
        _attempt_rows(old, case, rows)
    for statement, key in (
        (_INSERT_TASK, "new"),
        (_UPDATE_TASK, "changed"),
        (_INSERT_ATTEMPT, "new_attempts"),
        (_UPDATE_ATTEMPT, "changed_attempts"),
    ):
        if rows[key]:
            connection.execute(statement, rows[key])
    return changes


def to_task(row: Any) -> Task:  # noqa: ANN401  a row has its columns as attributes
    """Return a row of `tasks` as a task."""
    values = {column.name: getattr(row, column.name) for column in _TASK_COLUMNS}
    values["state"] = TaskState(row.state)
    values["result"] = _from_text(row.result)
    values["offered_to"] = _from_text(row.offered_to)
    return Task(**values)


def to_attempt(row: Any) -> Attempt:  # noqa: ANN401
    """Return a row of `attempts` as an attempt."""
    values = {column.name: getattr(row, column.name) for column in _ATTEMPT_COLUMNS[1:]}
    values["state"] = AttemptState(values["state"])
    values["result"] = _from_text(values["result"])
    return Attempt(**values)


def _task_rows(old: Case | None, case: Case, rows: dict[str, list[dict[str, Any]]], changes: list[Change]) -> None:
    if old is None:
        rows["new"].append(
            {field.name: _to_column(field.name, getattr(case.task, field.name)) for field in fields(Task)}
        )
    elif old.task is not case.task:
        new = {f"new_{name}": _to_column(name, getattr(case.task, name)) for name in _CHANGING}
        rows["changed"].append({"key": case.task.id, **new})
    else:
        return
    changes.append(Change(old.task if old else None, case.task))


def _attempt_rows(old: Case | None, case: Case, rows: dict[str, list[dict[str, Any]]]) -> None:
    known = old.attempts if old else {}
    for key, attempt in case.attempts.items():
        before = known.get(key)
        if before is attempt:
            continue
        if before is None:
            new = {field.name: _to_column(field.name, getattr(attempt, field.name)) for field in fields(Attempt)}
            rows["new_attempts"].append({"task": case.task.id, **new})
        else:
            changed = {f"new_{name}": _to_column(name, getattr(attempt, name)) for name in _ATTEMPT_CHANGING}
            where = {"key_task": case.task.id, "key_number": attempt.number, "key_worker": attempt.worker}
            rows["changed_attempts"].append({**where, **changed})


def _to_column(name: str, value: object) -> object:
    if name in ("result", "offered_to"):
        return None if value is None else to_json(value).decode()
    return value


def _from_text(text: str | None) -> object:
    return None if text is None else from_json(text)
