"""Reads and writes the schedules that are pushed to workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from broker.messages import ScheduleJob
from hub.rules.schedules import Schedule
from hub.store.schema import schedules

if TYPE_CHECKING:
    from sqlalchemy import Connection

_INSERT = insert(schedules).values({column.name: bindparam(column.name) for column in schedules.c})
_SAVE = _INSERT.on_conflict_do_update(
    index_elements=("name",),
    set_={name: _INSERT.excluded[name] for name in ("site", "worker", "body", "changed_ms")},
)


def load_schedules(connection: Connection) -> list[Schedule]:
    """Return every schedule, by name."""
    return [
        Schedule(ScheduleJob.model_validate_json(row.body), row.site, row.worker, row.created_ms, row.changed_ms)
        for row in connection.execute(select(schedules).order_by(schedules.c.name))
    ]


def save_schedule(connection: Connection, one: Schedule) -> None:
    """Write a schedule, new or known."""
    body = one.job.model_dump_json(by_alias=True, exclude_none=True)
    row = {"name": one.name, "body": body, **{name: getattr(one, name) for name in Schedule._fields if name != "job"}}
    connection.execute(_SAVE, row)


def delete_schedule(connection: Connection, name: str) -> None:
    """Forget a schedule."""
    connection.execute(delete(schedules).where(schedules.c.name == name))
