"""The agent's one SQLite file, and the one thread that writes it.

An fsync on an SD card can take 50 ms, whether for one row or a hundred. So callers submit pieces of work, and whatever
is queued is committed as one transaction (group commit), away from the event loop and its keepalive. Each piece has a
savepoint of its own: one that fails takes nothing with it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from broker.log import get_logger
from edge_agent.errors import StorageClosed, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAX_GROUP = 256
"""Pieces of work in one transaction, so that the first of them does not wait for ever."""

SCHEMA_VERSION = 2
"""How many steps `edge_agent.schema` has."""

BUSY_TIMEOUT_SECONDS = 5.0
MAX_WAL_BYTES = 4 * 1024 * 1024

Result = TypeVar("Result")

log = get_logger(__name__)


class Transaction:
    """What a piece of work writes with. What it changes in memory belongs into `after_commit`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.committed: list[Callable[[], None]] = []

    def execute(self, sql: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self._connection.execute(sql, tuple(values))

    def executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> sqlite3.Cursor:
        """Run one statement for each row."""
        return self._connection.executemany(sql, rows)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` in the event loop once the work is committed, before its result is known; never if it fails."""
        self.committed.append(action)


@dataclass(slots=True)
class _Piece:
    work: Callable[[Transaction], Any]
    future: asyncio.Future[Any] | None
    result: Any = None
    error: BaseException | None = None
    committed: list[Callable[[], None]] = field(default_factory=list)


class Database:
    """Commits pieces of work, many at a time.

    Args:
        path: The file. Its directory is made if there is none.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Open or make the file, bring its schema up to date, and start the writer.

        Raises:
            StorageError: If the file cannot be opened or written.

        """
        self._loop = asyncio.get_running_loop()
        connection = connect(self.path)
        self._thread = threading.Thread(target=self._run, args=(connection,), name="database", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Commit what was submitted, and close the file."""
        if self._thread and not self._closed.is_set():
            self._closed.set()
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    async def commit(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work` in the next transaction, and return its result after the commit.

        Shielded: work that was submitted is done, whether or not the caller still waits.

        Raises:
            StorageError: If the transaction could not be committed.

        """
        return await asyncio.shield(self.submit(work))

    def submit(self, work: Callable[[Transaction], Result]) -> asyncio.Future[Result]:
        """Queue `work`; the future has its result once the transaction that holds it is committed."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put(_Piece(work, future))
        return future

    def post(self, work: Callable[[Transaction], object]) -> None:
        """Queue `work` that nobody waits for, from any thread; a failure is logged."""
        self._put(_Piece(work, None))

    def _put(self, piece: _Piece) -> None:
        if self._closed.is_set():
            raise StorageClosed(self.path)
        self._queue.put(piece)

    # -- in the writer's thread ------------------------------------------------------------------------------------

    def _run(self, connection: sqlite3.Connection) -> None:
        while group := self._next_group():
            self._commit(connection, group)
            if self._loop:
                self._loop.call_soon_threadsafe(_answer, group)
        connection.close()

    def _next_group(self) -> list[_Piece]:
        first = self._queue.get()
        group = [first] if first else []
        while group and len(group) < MAX_GROUP:
            try:
                piece = self._queue.get_nowait()
            except queue.Empty:
                break
            if piece is None:
                self._queue.put(None)  # for the next round: this group first
                break
            group.append(piece)
        return group

    def _commit(self, connection: sqlite3.Connection, group: list[_Piece]) -> None:
        try:
            connection.execute("BEGIN")
            for piece in group:
                _do(connection, piece)
            connection.execute("COMMIT")
        except sqlite3.Error as error:  # disk full, I/O error: it fails each piece, and no more
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for piece in group:
                piece.error = piece.error or StorageError(self.path, str(error))


def connect(path: Path) -> sqlite3.Connection:
    """Open or make the file and bring its schema up to date. Raises `StorageError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
        _migrate(connection)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(path, getattr(error, "strerror", None) or str(error)) from None
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date. `user_version` says that it is, so that most starts load no tools for it."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION:
        return
    from sqlite_utils import Database as Tools  # noqa: PLC0415  3 MB

    from edge_agent.schema import migrations  # noqa: PLC0415

    migrations.apply(Tools(connection))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _do(connection: sqlite3.Connection, piece: _Piece) -> None:
    transaction = Transaction(connection)
    connection.execute("SAVEPOINT piece")
    try:
        piece.result = piece.work(transaction)
    except Exception as error:  # noqa: BLE001  it belongs to who submitted the work
        piece.error = error
        connection.execute("ROLLBACK TO piece")
    else:
        piece.committed = transaction.committed
    connection.execute("RELEASE piece")


def _answer(group: list[_Piece]) -> None:
    """Tell everybody, in the event loop: first what is committed, then who waits for it."""
    for piece in group:
        if piece.error is None:
            for action in piece.committed:
                action()
    for piece in group:
        if piece.future is None:
            if piece.error is not None:
                log.error("not_stored", reason=str(piece.error))
        elif not piece.future.done():
            if piece.error is not None:
                piece.future.set_exception(piece.error)
            else:
                piece.future.set_result(piece.result)
