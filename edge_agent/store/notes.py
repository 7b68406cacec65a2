"""What a file notes of itself for the next start: that it took the place of another, or that a run was cut short.

A note is in `about` until the start that tells it (`edge_agent.store.boots`) has committed the event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from edge_agent.store.transaction import Transaction

CUT_SHORT = "cut_short"
NEW = "new"
SET_ASIDE = "set_aside"
_GENTLE = "gentle"

NUMBERS_TO_SKIP = 1_000_000
"""More than a run in gentle mode can have told the hub and not have committed."""

_KEEP = "INSERT INTO about (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def begin_run(connection: sqlite3.Connection, *, hold_seconds: float | None) -> None:
    """Note that a run in gentle mode begins (`hold_seconds`), and see how the last one ended.

    Numbers that a gentle run told the hub and did not commit must not be used again for other events: after a crash
    the numbers go on far behind them.
    """
    last = connection.execute("SELECT value FROM about WHERE name = ?", (_GENTLE,)).fetchone()
    if last is None and hold_seconds is None:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if last is not None:
            connection.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT 'journal', 0"
                " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'journal')"
            )
            connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'journal'", (NUMBERS_TO_SKIP,))
            connection.execute(_KEEP, (CUT_SHORT, last[0]))
            connection.execute("DELETE FROM about WHERE name = ?", (_GENTLE,))
        if hold_seconds is not None:
            connection.execute(_KEEP, (_GENTLE, f"{hold_seconds:g}"))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def end_run(transaction: Transaction) -> None:
    """Note that a run ended in order."""
    if transaction.execute("SELECT 1 FROM about WHERE name = ?", (_GENTLE,)).fetchone():
        transaction.execute("DELETE FROM about WHERE name = ?", (_GENTLE,))


def is_new(transaction: Transaction) -> bool:
    """Tell whether this journal has never been at the broker."""
    return transaction.execute("SELECT 1 FROM about WHERE name = ?", (NEW,)).fetchone() is not None


def end_new(transaction: Transaction) -> None:
    """Note that this journal has been at the broker."""
    transaction.execute("DELETE FROM about WHERE name = ?", (NEW,))


def write(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Leave a note."""
    connection.execute(_KEEP, (name, value))


def take(transaction: Transaction) -> dict[str, str]:
    """Return what was noted, and forget it, within `transaction`."""
    found = dict(transaction.execute("SELECT name, value FROM about WHERE name IN (?, ?)", (CUT_SHORT, SET_ASIDE)))
    for name in found:
        transaction.execute("DELETE FROM about WHERE name = ?", (name,))
    return found
