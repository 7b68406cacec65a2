"""Reads and writes what is known of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import insert, select, update

from broker.messages import Birth, HeartbeatMessage
from hub.rules.presence import Presence, PresenceState, Reason
from hub.store.schema import workers

if TYPE_CHECKING:
    from sqlalchemy import Connection


class WorkerRow(NamedTuple):
    """A worker as it is kept."""

    id: str
    site: str
    presence: Presence
    birth: Birth | None
    heartbeat: HeartbeatMessage | None


def save_worker(connection: Connection, worker: WorkerRow) -> None:
    """Write one worker, new or known."""
    values = {
        "site": worker.site,
        "state": worker.presence.state,
        "reason": worker.presence.reason,
        "since_ms": worker.presence.since_ms,
        "last_seen_ms": worker.presence.last_seen_ms,
        "session": worker.presence.session,
        "birth": worker.birth.model_dump_json(exclude_none=True) if worker.birth else None,
        "heartbeat": worker.heartbeat.model_dump_json(exclude_none=True) if worker.heartbeat else None,
    }
    changed = connection.execute(update(workers).where(workers.c.id == worker.id).values(values))
    if not changed.rowcount:
        connection.execute(insert(workers).values(id=worker.id, **values))


def load_workers(connection: Connection) -> list[WorkerRow]:
    """Return every worker that was ever heard of."""
    return [
        WorkerRow(
            id=row.id,
            site=row.site,
            presence=Presence(
                state=PresenceState(row.state),
                reason=Reason(row.reason) if row.reason else None,
                since_ms=row.since_ms,
                session=row.session,
                last_seen_ms=row.last_seen_ms,
                waiting_since_ms=row.last_seen_ms,
            ),
            birth=Birth.model_validate_json(row.birth) if row.birth else None,
            heartbeat=HeartbeatMessage.model_validate_json(row.heartbeat) if row.heartbeat else None,
        )
        for row in connection.execute(select(workers))
    ]
