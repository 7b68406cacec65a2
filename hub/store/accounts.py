"""Reads and writes the accounts of the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from hub.rules.access import Account, Kind
from hub.store.schema import accounts, workers

if TYPE_CHECKING:
    from sqlalchemy import Connection

_YEAR_2026 = 1_767_225_600
_COLUMNS = tuple(accounts.c[name] for name in Account._fields)
_INSERT = insert(accounts).values({name: bindparam(name) for name in Account._fields})
_SAVE = _INSERT.on_conflict_do_update(
    index_elements=("name",), set_={name: _INSERT.excluded[name] for name in Account._fields if name != "name"}
)


def load_accounts(connection: Connection) -> list[Account]:
    """Return every account, revoked ones too, by name."""
    return [_account(row) for row in connection.execute(select(*_COLUMNS).order_by(accounts.c.name))]


def find_account(connection: Connection, name: str) -> Account | None:
    """Return the account of a name, revoked or not."""
    row = connection.execute(select(*_COLUMNS).where(accounts.c.name == name)).one_or_none()
    return _account(row) if row else None


def save_account(connection: Connection, one: Account) -> None:
    """Write an account, new or known."""
    connection.execute(_SAVE, one._asdict())


def least_generation(connection: Connection) -> int:
    """Return from which number on passwords are counted: a restore has forgotten who was given which before."""
    return connection.exec_driver_sql("PRAGMA user_version").scalar() or 1


def count_generations_anew(connection: Connection, now: int) -> None:
    """Let no account be given a password that it may have had before a restore at `now`, in Unix milliseconds.

    A name that is let in again would else get the one for which it was revoked. Each restore begins at the second that
    it is made in, which a file's own number (`PRAGMA user_version`, 31 bits) can tell until 2094.
    """
    seconds = max(least_generation(connection), now // 1000 - _YEAR_2026)
    connection.exec_driver_sql(f"PRAGMA user_version = {seconds}")


def states_of_workers(connection: Connection) -> dict[str, str]:
    """Return how each worker is that was ever seen, by its id."""
    return {row.id: row.state for row in connection.execute(select(workers.c.id, workers.c.state))}


def _account(row: Any) -> Account:  # noqa: ANN401  a database row
    return Account._make(row)._replace(kind=Kind(row.kind))
