"""Writes what workers report beside their tasks: streams, rejections, facts, incidents and gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import to_json
from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from hub.store.schema import rejections, reports, streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from hub.rules.kept import Rejection, Report


class Mark(NamedTuple):
    """How far a stream is committed, and whose clock counts from there; None is not known."""

    through: int = 0
    boot: str | None = None


_MARK = select(streams.c.committed_through, streams.c.boot).where(
    streams.c.worker == bindparam("worker"), streams.c.stream == bindparam("stream")
)
_ADVANCE = upsert(streams).values(
    {name: bindparam(name) for name in ("worker", "stream", "committed_through", "boot")},
)
_ADVANCE = _ADVANCE.on_conflict_do_update(
    index_elements=("worker", "stream"),
    set_={name: _ADVANCE.excluded[name] for name in ("committed_through", "boot")},
)


def mark_of(connection: Connection, worker: str, stream: str) -> Mark:
    """Return the mark of a stream; that of a new one is 0."""
    row = connection.execute(_MARK, {"worker": worker, "stream": stream}).one_or_none()
    return Mark(*row) if row else Mark()


def committed_through(connection: Connection, worker: str, stream: str) -> int:
    """Return the last event of a stream that is committed; 0 for a stream that is new."""
    return mark_of(connection, worker, stream).through


def advance(connection: Connection, worker: str, stream: str, through: int, *, boot: str | None = None) -> None:
    """Move the mark of a stream; `boot` is whose clock counts from there, None where events were passed over."""
    connection.execute(_ADVANCE, {"worker": worker, "stream": stream, "committed_through": through, "boot": boot})


def add_rejections(connection: Connection, rows: Sequence[Rejection]) -> None:
    """Keep refused inputs."""
    if rows:
        connection.execute(insert(rejections), [_rejection_row(row) for row in rows])


def add_reports(connection: Connection, worker: str, stream: str, rows: Sequence[Report]) -> None:
    """Keep events that have no table of their own, each with its sequence number."""
    if rows:
        connection.execute(insert(reports), [_report_row(worker, stream, row) for row in rows])


def _rejection_row(row: Rejection) -> dict[str, object]:
    return {
        "at_ms": row.at_ms,
        "topic": row.topic,
        "site": row.site,
        "reported_by": row.reported_by,
        "task": row.task,
        "reason": row.reason,
        "problems": to_json([problem.as_dict() for problem in row.problems]).decode(),
        "payload": row.payload,
    }


def _report_row(worker: str, stream: str, row: Report) -> dict[str, object]:
    body = row.event.model_dump_json(exclude_none=True)
    if row.error_ms is not None:
        body = f'{body[:-1]},"error_ms":{row.error_ms}}}'
    return {
        "worker": worker,
        "stream": stream,
        "stream_seq": row.number,
        "type": getattr(row.event, "type", ""),
        "at_ms": row.event.at,
        "body": body,
    }
