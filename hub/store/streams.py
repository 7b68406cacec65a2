"""Which journals a worker has had, and which of them is its last."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.sqlite import insert

from hub.store.schema import streams

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Stream(NamedTuple):
    """A journal, and how far it is committed."""

    name: str
    through: int


_LAST = (
    select(streams.c.stream, streams.c.committed_through)
    .where(streams.c.worker == bindparam("worker"))
    .order_by(func.coalesce(streams.c.greeted, 0).desc(), (streams.c.stream == bindparam("stream")).desc())
    .limit(1)
)
_NEXT = select(func.coalesce(func.max(streams.c.greeted), 0) + 1).where(streams.c.worker == bindparam("worker"))
_GREET = insert(streams).values(
    worker=bindparam("worker"),
    stream=bindparam("stream"),
    committed_through=0,
    greeted=_NEXT.scalar_subquery(),
)
_GREET = _GREET.on_conflict_do_update(index_elements=("worker", "stream"), set_={"greeted": _GREET.excluded.greeted})


def last_stream(connection: Connection, worker: str, stream: str) -> Stream | None:
    """Return the journal with which a worker said hello last.

    Where that was not noted (a database of the first release), it is taken to be `stream`, if the worker ever used it.
    """
    row = connection.execute(_LAST, {"worker": worker, "stream": stream}).one_or_none()
    return Stream(*row) if row else None


def greet(connection: Connection, worker: str, stream: str) -> None:
    """Note that this is a worker's journal now."""
    connection.execute(_GREET, {"worker": worker, "stream": stream})
