"""Writes what workers report beside their tasks: streams, rejections, facts, incidents and gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import to_json
from sqlalchemy import insert, select, update

from hub.store.schema import rejections, reports, streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from broker.messages import Event
    from broker.problems import Problem


@dataclass(frozen=True, slots=True)
class Rejection:
    """Input that was refused, and by whom: a worker's id, or `hub`."""

    at_ms: int
    topic: str
    site: str | None
    reported_by: str
    task: str | None
    reason: str
    problems: Sequence[Problem]
    payload: str


def committed_through(connection: Connection, worker: str, stream: str) -> int:
    """Return the last event of a stream that is committed; 0 for a stream that is new."""
    query = select(streams.c.committed_through).where(streams.c.worker == worker, streams.c.stream == stream)
    return connection.execute(query).scalar_one_or_none() or 0


def advance(connection: Connection, worker: str, stream: str, through: int) -> None:
    """Move the mark of a stream."""
    here = (streams.c.worker == worker) & (streams.c.stream == stream)
    moved = connection.execute(update(streams).where(here).values(committed_through=through))
    if not moved.rowcount:
        connection.execute(insert(streams).values(worker=worker, stream=stream, committed_through=through))


def add_rejections(connection: Connection, rows: Sequence[Rejection]) -> None:
    """Keep refused inputs."""
    if rows:
        connection.execute(insert(rejections), [_rejection_row(row) for row in rows])


def add_reports(connection: Connection, worker: str, stream: str, rows: Sequence[tuple[int, Event]]) -> None:
    """Keep events that have no table of their own, each with its sequence number."""
    if rows:
        connection.execute(insert(reports), [_report_row(worker, stream, number, event) for number, event in rows])


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


def _report_row(worker: str, stream: str, number: int, event: Event) -> dict[str, object]:
    return {
        "worker": worker,
        "stream": stream,
        "stream_seq": number,
        "type": getattr(event, "type", ""),
        "at_ms": event.at,
        "body": event.model_dump_json(exclude_none=True),
    }
