"""Reads for the API. Lists are newest first, and paged by a cursor: the key of the last row that was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, func, or_, select

from hub.rules.children import is_parent
from hub.rules.task import ONE, TaskState
from hub.store import rows
from hub.store.actions import Deed, deeds_of
from hub.store.pages import Page, page_of, paged
from hub.store.parents import count_children
from hub.store.schema import attempts, rejections, reports, tasks, workers

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hub.rules.task import Attempt, Task


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a list shows; what is None does not matter. `site` is where a task must run, or where it did."""

    site: str | None = None
    worker: str | None = None
    state: TaskState | None = None
    kind: str | None = None
    since_ms: int | None = None
    parent: str | None = None


def list_tasks(connection: Connection, wanted: TaskFilter, *, limit: int, cursor: int | None) -> Page[Task]:
    """Return up to `limit` tasks, newest first."""
    query = select(*rows.TASK_COLUMNS, tasks.c.seq)
    if wanted.site is not None:
        here = select(workers.c.id).where(workers.c.site == wanted.site)
        query = query.where(or_(tasks.c.site == wanted.site, and_(tasks.c.site.is_(None), tasks.c.worker.in_(here))))
    for column, value in (
        (tasks.c.worker, wanted.worker),
        (tasks.c.state, wanted.state),
        (tasks.c.kind, wanted.kind),
        (tasks.c.parent, wanted.parent),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since_ms is not None:
        query = query.where(tasks.c.created_ms >= wanted.since_ms)
    return paged(connection.execute(page_of(query, tasks.c.seq, limit, cursor)).all(), limit, rows.to_task)


class InFull(NamedTuple):
    """A task with its attempts in order, what people did to it, and, of a parent, its children by state."""

    task: Task
    attempts: list[Attempt]
    deeds: list[Deed]
    children: dict[TaskState, int] | None = None


def one_task(connection: Connection, task_id: str) -> InFull | None:
    """Return a task with all that is known of it."""
    row = connection.execute(select(*rows.TASK_COLUMNS).where(tasks.c.id == task_id)).one_or_none()
    if row is None:
        return None
    query = (
        select(*rows.ATTEMPT_COLUMNS).where(attempts.c.task == task_id).order_by(attempts.c.number, attempts.c.worker)
    )
    task = rows.to_task(row)
    return InFull(
        task,
        [rows.to_attempt(attempt) for attempt in connection.execute(query)],
        deeds_of(connection, task_id),
        count_children(connection, task_id) if is_parent(task) else None,
    )


def count_by_site(connection: Connection) -> dict[str, dict[str, int]]:
    """Return for each site how many unended tasks it has, by state."""
    unended = (TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.UNKNOWN)
    is_no_sum = or_(tasks.c.target == ONE, tasks.c.state == TaskState.PENDING)  # a parent that runs is its children
    query = select(tasks.c.site, tasks.c.state, func.count()).where(
        tasks.c.state.in_(unended), tasks.c.site.is_not(None), is_no_sum
    )
    counts: dict[str, dict[str, int]] = {}
    for site, state, count in connection.execute(query.group_by(tasks.c.site, tasks.c.state)):
        counts.setdefault(site, {})[state] = count
    return counts


def list_rejections(connection: Connection, *, site: str | None, limit: int, cursor: int | None) -> Page[Any]:
    """Return up to `limit` refused inputs, newest first."""
    query = select(rejections)
    if site is not None:
        query = query.where(rejections.c.site == site)
    return paged(connection.execute(page_of(query, rejections.c.seq, limit, cursor)).all(), limit, lambda row: row)


def list_gaps(connection: Connection, *, worker: str | None, limit: int, cursor: int | None) -> Page[Any]:
    """Return up to `limit` gaps, newest first, each with the site that its worker has now."""
    return _list_reports(connection, "gap", worker, limit, cursor)


def list_skips(connection: Connection, *, worker: str | None, limit: int, cursor: int | None) -> Page[Any]:
    """Return up to `limit` firings that became no task, newest first, each with the site that its worker has now."""
    return _list_reports(connection, "schedule.skipped", worker, limit, cursor)


def _list_reports(connection: Connection, kind: str, worker: str | None, limit: int, cursor: int | None) -> Page[Any]:
    query = select(reports, workers.c.site).outerjoin(workers, workers.c.id == reports.c.worker)
    query = query.where(reports.c.type == kind)
    if worker is not None:
        query = query.where(reports.c.worker == worker)
    return paged(connection.execute(page_of(query, reports.c.seq, limit, cursor)).all(), limit, lambda row: row)
