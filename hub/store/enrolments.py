"""Reads and writes enrolments: one-time tokens that workers trade for accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from hub.rules.enrolment import Enrolment
from hub.store.schema import enrolments

if TYPE_CHECKING:
    from sqlalchemy import Connection

_COLUMNS = tuple(enrolments.c[name] for name in Enrolment._fields)
_INSERT = insert(enrolments).values({name: bindparam(name) for name in Enrolment._fields})
_SAVE = _INSERT.on_conflict_do_update(
    index_elements=("id",), set_={name: _INSERT.excluded[name] for name in Enrolment._fields if name != "id"}
)


def find_enrolment(connection: Connection, token_id: str) -> Enrolment | None:
    """Return the enrolment of a token's id."""
    row = connection.execute(select(*_COLUMNS).where(enrolments.c.id == token_id)).one_or_none()
    return Enrolment._make(row) if row else None


def list_enrolments(connection: Connection) -> list[Enrolment]:
    """Return every enrolment, newest first."""
    query = select(*_COLUMNS).order_by(enrolments.c.created_ms.desc(), enrolments.c.id)
    return [Enrolment._make(row) for row in connection.execute(query)]


def save_enrolment(connection: Connection, one: Enrolment) -> None:
    """Write an enrolment, new or known."""
    connection.execute(_SAVE, one._asdict())
