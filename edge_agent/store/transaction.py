"""A piece of work for the database, and what it writes with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Callable, Iterable

Statement = tuple[str, list[tuple[Any, ...]]]
"""SQL, and the rows that it was executed with."""


class Transaction:
    """What a piece of work writes with. What it changes in memory belongs into `after_commit`."""

    def __init__(self, connection: sqlite3.Connection, *, record: bool = False) -> None:
        self._connection = connection
        self._record = record
        self.committed: list[Callable[[], None]] = []
        self.undone: list[Callable[[], None]] = []
        self.statements: list[Statement] = []

    def execute(self, sql: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        row = tuple(values)
        if self._record:
            self.statements.append((sql, [row]))
        return self._connection.execute(sql, row)

    def executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> sqlite3.Cursor:
        """Run one statement for each row."""
        if self._record:
            rows = list(rows)
            self.statements.append((sql, rows))
        return self._connection.executemany(sql, rows)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` in the event loop once the work is committed, before its result is known; never if it fails."""
        self.committed.append(action)

    def on_rollback(self, action: Callable[[], None]) -> None:
        """Call `action` in the writer's thread if the work is not committed after all."""
        self.undone.append(action)


@dataclass(slots=True, eq=False)
class Piece:
    """Work that was submitted, and what became of it.

    Attributes:
        work: What is done. It may be done again, if the transaction fails that it was done in.
        future: Who waits for it.
        durable: It is not answered before it is on the disk.
        reads: It changes nothing, so it can be done where the disk takes nothing.
        frees: It only makes room, so on a full disk it is done before all else.
        instead: Asked, where the work cannot be stored and nobody waits: what is to be done in its place.

    """

    work: Callable[[Transaction], Any]
    future: asyncio.Future[Any] | None = None
    durable: bool = False
    reads: bool = False
    frees: bool = False
    instead: Callable[[], Callable[[Transaction], object] | None] | None = None
    result: Any = None
    error: BaseException | None = None
    committed: list[Callable[[], None]] = field(default_factory=list)
    undone: list[Callable[[], None]] = field(default_factory=list)
