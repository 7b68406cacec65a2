"""Reads and writes what is known of workers."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from broker.messages import Birth, HeartbeatMessage
from hub.rules.clocks import Estimate
from hub.rules.presence import DEFAULT_INTERVAL_MS, Presence, PresenceState, Reason
from hub.store.schema import workers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Row

    from hub.rules.clocks import Clocks


class WorkerRow(NamedTuple):
    """A worker as it is kept."""

    id: str
    site: str
    presence: Presence
    birth: Birth | None
    heartbeat: HeartbeatMessage | None
    clocks: Clocks = MappingProxyType({})


_INSERT = insert(workers).values({column.name: bindparam(column.name) for column in workers.c})
_SAVE = _INSERT.on_conflict_do_update(
    index_elements=("id",),
    set_={column.name: _INSERT.excluded[column.name] for column in workers.c if column.name != "id"},
)


def save_worker(connection: Connection, worker: WorkerRow) -> None:
    """Write one worker, new or known."""
    save_workers(connection, [worker])


def save_workers(connection: Connection, rows: Iterable[WorkerRow]) -> None:
    """Write workers, new or known."""
    connection.execute(_SAVE, [_values(row) for row in rows])


def load_workers(connection: Connection) -> list[WorkerRow]:
    """Return every worker that was ever heard of."""
    return [_worker(row) for row in connection.execute(select(workers))]


def _values(worker: WorkerRow) -> dict[str, object]:
    return {
        "id": worker.id,
        "site": worker.site,
        "state": worker.presence.state,
        "reason": worker.presence.reason,
        "since_ms": worker.presence.since_ms,
        "last_seen_ms": worker.presence.last_seen_ms,
        "session": worker.presence.session,
        "birth": worker.birth.model_dump_json(exclude_none=True) if worker.birth else None,
        "heartbeat": worker.heartbeat.model_dump_json(exclude_none=True) if worker.heartbeat else None,
        "clocks": _clocks_text(worker.clocks),
    }


def _worker(row: Row[tuple[object, ...]]) -> WorkerRow:
    birth = Birth.model_validate_json(row.birth) if row.birth else None
    presence = Presence(
        state=PresenceState(row.state),
        reason=Reason(row.reason) if row.reason else None,
        since_ms=row.since_ms,
        session=row.session,
        last_seen_ms=row.last_seen_ms,
        waiting_since_ms=row.last_seen_ms,
        interval_ms=int(birth.heartbeat_interval_seconds * 1000) if birth else DEFAULT_INTERVAL_MS,
    )
    heartbeat = HeartbeatMessage.model_validate_json(row.heartbeat) if row.heartbeat else None
    clocks = {boot: tuple(Estimate(*one) for one in samples) for boot, samples in from_json(row.clocks or "{}").items()}
    return WorkerRow(row.id, row.site, presence, birth, heartbeat, clocks)


def _clocks_text(clocks: Clocks) -> str:
    samples = {boot: [(one.offset_ms, one.error_ms, one.at_ms) for one in samples] for boot, samples in clocks.items()}
    return to_json(samples).decode()
