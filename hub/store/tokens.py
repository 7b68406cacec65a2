"""Reads and writes the tokens of the API: what changes one writes its line of the audit trail with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, exists, insert, or_, select, update

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from hub.errors import NotFound
from hub.rules.roles import Role
from hub.rules.tokens import ApiToken, living
from hub.store.audit import write
from hub.store.schema import tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from hub.rules.callers import Caller

_COLUMNS = tuple(tokens.c[name] for name in ApiToken._fields)
_TOUCH = (
    update(tokens)
    .where(tokens.c.id == bindparam("token"))
    .where(or_(tokens.c.last_used_ms.is_(None), tokens.c.last_used_ms < bindparam("used_ms")))
    .values(last_used_ms=bindparam("used_ms"))
)


def load_tokens(connection: Connection) -> list[ApiToken]:
    """Return every token that was ever made, oldest first."""
    rows = connection.execute(select(*_COLUMNS).order_by(tokens.c.created_ms, tokens.c.id))
    return [ApiToken._make(row)._replace(role=Role(row.role)) for row in rows]


def any_token(connection: Connection) -> bool:
    """Tell whether a token was ever made."""
    return bool(connection.execute(select(exists().select_from(tokens))).scalar())


def add_token(connection: Connection, new: ApiToken, by: Caller) -> None:
    """Keep a new token. Raises `InvalidInput` where a token of its name holds."""
    if living(load_tokens(connection), new.name, new.created_ms):
        expected = "a name that no token has that holds: revoke that one, or choose another"
        raise InvalidInput([Problem("name", shown(new.name), expected)])
    connection.execute(insert(tokens), new._asdict())
    lasts = "" if new.expires_ms is None else f", for {(new.expires_ms - new.created_ms) / 86_400_000:g} days"
    write(connection, by.did("token.created", new.name, f"{new.id}: {new.role}{lasts}"))


def revoke_token(connection: Connection, wanted: str, now_ms: int, by: Caller) -> ApiToken:
    """Let a token hold no more, by its id or its name; one that was revoked before stays as it is.

    Raises:
        NotFound: If no token has this id, and none that holds this name.

    """
    known = load_tokens(connection)
    one = next((each for each in known if each.id == wanted), None) or living(known, wanted, now_ms)
    if one is None:
        raise NotFound("token", wanted)
    if one.revoked_ms is None:
        one = one._replace(revoked_ms=now_ms)
        connection.execute(update(tokens).where(tokens.c.id == one.id).values(revoked_ms=now_ms))
        write(connection, by.did("token.revoked", one.name, one.id))
    return one


def touch_tokens(connection: Connection, used: Mapping[str, int]) -> None:
    """Keep when tokens were last shown, by their ids: no line of the trail, for nothing was done."""
    if used:
        connection.execute(_TOUCH, [{"token": token, "used_ms": at_ms} for token, at_ms in used.items()])
