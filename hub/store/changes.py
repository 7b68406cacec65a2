"""Tells whether a database was written to: a glance at memory that SQLite's connections share, not a transaction."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Changes:
    """A connection of its own, that nothing else is done with. It is of the thread that makes it."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.raw_connection()
        self._connection.detach()  # it is kept for long: the pool has one more for others
        self._execute("PRAGMA busy_timeout=0")

    def version(self) -> int | None:
        """Return a number that is another after each commit of any other connection; None, if it cannot be seen now."""
        try:
            return self._execute("PRAGMA data_version")
        except sqlite3.Error:
            return None

    def _execute(self, statement: str) -> int:
        cursor = self._connection.cursor()
        cursor.execute(statement)
        (number,) = cursor.fetchone() or (0,)
        return int(number)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
