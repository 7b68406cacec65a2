"""The one thread that writes the agent's SQLite file.

An fsync on an SD card can take 50 ms, whether for one row or a hundred, so whatever is queued is committed together,
away from the event loop and its keepalive. Each piece of work has a savepoint of its own: one that fails takes nothing
with it.

Where the disk is full, the reserve is given up, then the journal is asked to make room. What still cannot be stored,
and nobody waits for, is kept, and done before anything else once there is room.
"""

from __future__ import annotations

import queue
import shutil
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from broker.log import get_logger
from edge_agent.errors import StorageCorrupt, StorageError
from edge_agent.sqlite import WAL_BYTES, Trouble, give_back, has_much_to_give_back, limit_growth, trouble_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from edge_agent.reserve import Reserve

MAX_GROUP = 256
"""Pieces of work in one transaction, so that the first of them does not wait for ever."""

MAX_HELD = 20_000
"""Statements that gentle mode keeps in memory."""

RETRY_SECONDS = 1.0
RESERVE_INTERVAL_SECONDS = 60.0
"""How often a full disk is tried, and a reserve that was given up is made again."""

GAP_BYTES = 64 * 1024
"""What the file may grow by for the gap that tells what was dropped: the first rows that go may leave no page empty."""

PROBE_BYTES = 64 * 1024
"""What must fit before a disk is not called full any more."""

Statement = tuple[str, list[tuple[Any, ...]]]
"""SQL, and the rows that it was executed with."""

log = get_logger(__name__)


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


class Listener(Protocol):
    """Who hears how it goes, in the writer's thread."""

    make_room: Callable[[Transaction], bool]

    def on_stored(self, pieces: Sequence[Piece]) -> None:
        """Hear of pieces that are done."""

    def on_full(self, reason: str) -> None:
        """Hear that the disk takes nothing."""

    def on_room(self) -> None:
        """Hear that the disk takes what is written."""

    def on_corrupt(self, reason: str) -> None:
        """Hear that the file is damaged."""


class Writer:
    """Does what is `put` until it is put None.

    Args:
        path: The file.
        reserve: What is given up on a full disk.
        listener: Who hears how it goes.
        hold_seconds: How long gentle mode may keep an open transaction; None commits each.

    """

    def __init__(self, path: Path, reserve: Reserve, listener: Listener, *, hold_seconds: float | None) -> None:
        self.holding_allowed = False
        self._path = path
        self._reserve = reserve
        self._listener = listener
        self._hold_seconds = hold_seconds
        self._queue: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection
        self._kept: list[Piece] = []
        self._held: list[Statement] = []
        self._commit_at = 0.0
        self._refused = False
        self._closing = False
        self._reserve_at = 0.0

    def put(self, piece: Piece | None) -> None:
        """Queue a piece of work, from any thread; None is the end."""
        self._queue.put(piece)

    def run(self, connection: sqlite3.Connection) -> None:
        """Write until the end."""
        self._connection = connection
        group: list[Piece] = []
        try:
            self._make_reserve()
            while not self._closing:
                group = self._next_group()
                self._store(group)
                self._make_reserve()
                self._give_back()
            self._tell_what_was_kept()
        except sqlite3.Error as error:
            self._give_up(error)
        finally:
            self._connection.close()

    # -- what comes ------------------------------------------------------------------------------------------------

    def _next_group(self) -> list[Piece]:
        group: list[Piece] = []
        try:
            piece = self._queue.get(timeout=self._patience())
            while piece is not None:
                group.append(piece)
                if len(group) == MAX_GROUP:
                    return group
                piece = self._queue.get_nowait()
            self._closing = True
        except queue.Empty:
            pass
        return group

    def _patience(self) -> float | None:
        """Return how long there is nothing to do unless a piece comes."""
        now = time.monotonic()
        waits = []
        if self._held:
            waits.append(self._commit_at - now)
        if self._refused:
            waits.append(RETRY_SECONDS)
        if not self._reserve.is_there:
            waits.append(self._reserve_at - now)
        return max(0.0, min(waits)) if waits else None

    # -- storing it ------------------------------------------------------------------------------------------------

    def _store(self, group: list[Piece]) -> None:
        self._kept += group
        if not self._kept and not self._refused and not self._held:
            return
        ways = self._make_room()
        while True:
            try:
                committed = self._attempt(self._kept)
                break
            except sqlite3.Error as error:
                self._roll_back(self._kept)
                trouble = trouble_of(error)
                if trouble is Trouble.CORRUPT:
                    raise
                if trouble is not Trouble.NO_ROOM or not next(ways, False):
                    self._store_what_fits()
                    self._refuse(str(error))
                    return
        pieces, self._kept = self._kept, []
        self._listener.on_stored(pieces)
        if self._refused and committed and self._has_room():
            self._refused = False
            self._listener.on_room()

    def _attempt(self, pieces: Sequence[Piece]) -> bool:
        """Do all pieces in a transaction; tell whether it was committed, or is held open."""
        self._begin()
        changes = self._connection.total_changes
        statements = [statement for piece in pieces for statement in self._do(piece)]
        if self._may_hold(pieces):
            if self._connection.total_changes == changes:
                return False
            if not self._held:
                self._commit_at = time.monotonic() + (self._hold_seconds or 0)
            self._held += statements
            return False
        self._connection.execute("COMMIT")
        self._held.clear()
        return True

    def _begin(self) -> None:
        """Open a transaction, or go on with the one that is held; if that was rolled back, write it again first."""
        if self._connection.in_transaction:
            return
        self._connection.execute("BEGIN")
        for sql, rows in self._held:
            for row in rows:
                self._connection.execute(sql, row)

    def _do(self, piece: Piece) -> list[Statement]:
        """Do one piece; return what it wrote with, where that may be needed again."""
        transaction = Transaction(self._connection, record=self._hold_seconds is not None)
        piece.error, piece.committed, piece.undone = None, [], transaction.undone
        self._connection.execute("SAVEPOINT piece")
        try:
            piece.result = piece.work(transaction)
        except Exception as error:
            if trouble_of(error):
                raise
            piece.error = error  # it belongs to who submitted the work
            self._connection.execute("ROLLBACK TO piece")
            _undo(piece)
        else:
            piece.committed = transaction.committed
        self._connection.execute("RELEASE piece")
        return [] if piece.error else transaction.statements

    def _may_hold(self, pieces: Iterable[Piece]) -> bool:
        if self._hold_seconds is None or not self.holding_allowed or self._closing or self._refused:
            return False
        in_time = not self._held or time.monotonic() < self._commit_at
        return in_time and len(self._held) < MAX_HELD and not any(piece.durable for piece in pieces)

    def _roll_back(self, pieces: Sequence[Piece]) -> None:
        if self._connection.in_transaction:  # SQLite itself ends it at some errors
            self._connection.execute("ROLLBACK")
        for piece in reversed(pieces):
            _undo(piece)

    # -- a full disk -----------------------------------------------------------------------------------------------

    def _make_room(self) -> Iterator[bool]:
        """Give up one thing after the other, what is worth least first; yield True whenever there is more room."""
        had_reserve = self._reserve.give_up()
        if had_reserve:
            self._reserve_at = time.monotonic() + RESERVE_INTERVAL_SECONDS
            log.warning("storage_low", path=str(self._path), reason="the disk is full: the reserve was given up")
        self._checkpoint()
        # What gentle mode has answered comes first: the numbers that it told must not go to the gaps.
        while not self._held and (self._let_go() or self._evict()):
            yield True
        if self._grow() or had_reserve:
            yield True

    def _let_go(self) -> bool:
        """Do what only makes room, one by one; tell whether the disk took any of it."""
        return self._store_apart([piece for piece in self._kept if piece.frees])

    def _store_what_fits(self) -> None:
        """Do one by one what is too much for one transaction: together they need more of the log than there is."""
        if not self._held and len(self._kept) > 1:
            self._store_apart(self._kept)

    def _store_apart(self, pieces: Iterable[Piece]) -> bool:
        done = [piece for piece in pieces if self._do_apart(piece)]
        self._kept = [piece for piece in self._kept if piece not in done]
        self._listener.on_stored(done)
        return bool(done)

    def _do_apart(self, piece: Piece) -> bool:
        """Do a piece in a transaction of its own; tell whether the disk took it."""
        limit_growth(self._connection, GAP_BYTES)
        try:
            self._connection.execute("BEGIN")
            self._do(piece)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back([piece])
            if trouble_of(error) is Trouble.CORRUPT:
                raise
            return False
        limit_growth(self._connection, 0)
        return True

    def _has_room(self) -> bool:
        """Tell whether there is room for more than the few bytes that always fit somewhere."""
        try:
            self._grow()
            self._connection.execute("BEGIN")
            self._connection.execute("INSERT INTO about (name, value) VALUES ('probe', zeroblob(?))", (PROBE_BYTES,))
            self._connection.execute("DELETE FROM about WHERE name = 'probe'")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back([])
            if trouble_of(error) is Trouble.CORRUPT:
                raise
            return False
        return True

    def _grow(self) -> bool:
        """Let the file grow by what is free, but for what the log needs; tell whether it may grow by anything."""
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError:
            return False
        return limit_growth(self._connection, max(0, free - 2 * WAL_BYTES))

    def _evict(self) -> bool:
        room = Piece(self._listener.make_room)
        if not self._do_apart(room):
            return False
        self._listener.on_stored([room])
        return bool(room.result)

    def _checkpoint(self) -> None:
        """Empty the write-ahead log into the file, so that its room can be used again."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        except sqlite3.Error as error:
            if trouble_of(error) is Trouble.CORRUPT:
                raise
            log.debug("not_checkpointed", reason=str(error))  # the log stays as it is, and nothing in it is lost

    def _refuse(self, reason: str) -> None:
        """Fail those who wait, but for those who only read; keep what nobody waits for."""
        self._refused = True
        self._listener.on_full(reason)
        for piece in self._kept:
            if piece.reads:
                self._read(piece)
        pieces, self._kept, told = self._kept, [], []
        for piece in pieces:
            if piece.reads:
                told.append(piece)
            elif piece.future is not None:
                piece.error = StorageError(self._path, reason)
                told.append(piece)
            elif piece.instead is None:
                self._kept.append(piece)
            elif work := piece.instead():
                self._kept.append(Piece(work))
        self._listener.on_stored(told)

    def _read(self, piece: Piece) -> None:
        self._connection.execute("BEGIN")
        self._do(piece)
        self._connection.execute("COMMIT")

    def _make_reserve(self) -> None:
        if not self._reserve.is_there and time.monotonic() >= self._reserve_at and not self._refused:
            self._reserve_at = time.monotonic() + RESERVE_INTERVAL_SECONDS
            if self._reserve.make():
                limit_growth(self._connection, None)

    # -- space that is not needed, and the end ---------------------------------------------------------------------

    def _give_back(self) -> None:
        """Give much free space back to the disk, in steps, while nothing else waits to be written."""
        if self._connection.in_transaction or self._refused or not self._queue.empty():
            return
        more = has_much_to_give_back(self._connection)
        try:
            while more and self._queue.empty():
                more = give_back(self._connection)
        except sqlite3.Error as error:
            if trouble_of(error) is Trouble.CORRUPT:
                raise
            log.debug("space_not_given_back", reason=str(error))

    def _give_up(self, error: sqlite3.Error) -> None:
        """Fail everybody: the file is damaged."""
        reason = str(error)
        self._listener.on_corrupt(reason)
        pieces = self._kept
        while not self._queue.empty():
            piece = self._queue.get_nowait()
            if piece is not None:
                pieces.append(piece)
        for piece in pieces:
            piece.error = StorageCorrupt(self._path, reason)
        self._listener.on_stored(pieces)

    def _tell_what_was_kept(self) -> None:
        if self._kept or self._held:
            log.error("not_stored", pieces=len(self._kept), statements=len(self._held), reason="the disk was full")


def _undo(piece: Piece) -> None:
    for action in reversed(piece.undone):
        action()
    piece.undone.clear()
