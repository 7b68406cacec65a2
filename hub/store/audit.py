"""Writes the audit trail, within the transaction that does what it tells of, and reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, select

from broker.clock import wall_ms
from hub.rules.audit import Entry
from hub.store.pages import Page, page_of, paged
from hub.store.schema import audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Dialect

_COLUMNS = ("at_ms", *Entry._fields)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines a list shows; what is None does not matter. `action` is one, or the word before its dot."""

    who: str | None = None
    action: str | None = None
    outcome: str | None = None
    since_ms: int | None = None


def write(connection: Connection, *entries: Entry) -> None:
    """Write lines of the trail; they are there if and only if what else the transaction does is."""
    at_ms = wall_ms()  # commands write here too: they share no steady clock with a hub that runs
    if entries:
        statement, in_order = _insert(connection.dialect)
        connection.exec_driver_sql(statement, [in_order((at_ms, *entry.bounded())) for entry in entries])


def list_audit(connection: Connection, wanted: AuditFilter, *, limit: int, cursor: int | None) -> Page[Any]:
    """Return up to `limit` lines, newest first."""
    query = select(audit)
    for column, value in ((audit.c.who, wanted.who), (audit.c.outcome, wanted.outcome)):
        if value is not None:
            query = query.where(column == value)
    if wanted.action is not None:
        family = audit.c.action.startswith(f"{wanted.action}.", autoescape=True)
        query = query.where((audit.c.action == wanted.action) | family)
    if wanted.since_ms is not None:
        query = query.where(audit.c.at_ms >= wanted.since_ms)
    return paged(connection.execute(page_of(query, audit.c.seq, limit, cursor)).all(), limit, lambda row: row)


def newest(connection: Connection) -> int:
    """Return the number of the newest line, 0 where there is none."""
    return connection.execute(select(func.max(audit.c.seq))).scalar() or 0


def actions_since(connection: Connection, seq: int) -> tuple[int, set[str]]:
    """Return the number of the newest line, and what was done after line `seq`."""
    rows = connection.execute(
        select(audit.c.action, func.max(audit.c.seq)).where(audit.c.seq > seq).group_by(audit.c.action)
    ).all()
    return max((row[1] for row in rows), default=seq), {row[0] for row in rows}


@cache
def _insert(dialect: Dialect) -> tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
    """Return the statement that writes a line, made once, and what puts a row of `_COLUMNS` in its order."""
    compiled = insert(audit).values({name: bindparam(name) for name in _COLUMNS}).compile(dialect=dialect)
    return str(compiled), itemgetter(*(_COLUMNS.index(name) for name in compiled.positiontup or ()))
