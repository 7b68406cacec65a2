"""The one thread that writes the agent's SQLite file.

An fsync on an SD card can take 50 ms, whether for one row or a hundred, so whatever is queued is committed together,
away from the event loop and its keepalive. Each piece of work has a savepoint of its own: one that fails takes nothing
with it.

Where the disk is full, the reserve is given up, then the journal is asked to make room. What still cannot be stored,
and nobody waits for, is kept, and done before anything else once there is room.
"""

from __future__ import annotations

import queue
import sqlite3
import time
from typing import TYPE_CHECKING, Protocol

from broker.log import get_logger
from edge_agent.errors import StorageCorrupt, StorageError
from edge_agent.store.room import Room
from edge_agent.store.sqlite import Trouble, trouble_of
from edge_agent.store.transaction import Piece, Statement, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from edge_agent.store.reserve import Reserve

MAX_GROUP = 256
"""Pieces of work in one transaction, so that the first of them does not wait for ever."""

MAX_HELD = 20_000
"""Statements that gentle mode keeps in memory."""

RETRY_SECONDS = 1.0
"""How often a full disk is tried."""

log = get_logger(__name__)


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
        self._room = Room(path, reserve)
        self._listener = listener
        self._hold_seconds = hold_seconds
        self._queue: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection
        self._kept: list[Piece] = []
        self._held: list[Statement] = []
        self._commit_at = 0.0
        self._refused = False
        self._closing = False
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float:
        """For how long it has been at one group of work, as seen from any thread."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def put(self, piece: Piece | None) -> None:
        """Queue a piece of work, from any thread; None is the end."""
        self._queue.put(piece)

    def run(self, connection: sqlite3.Connection) -> None:
        """Write until the end."""
        self._connection = connection
        try:
            self._room.open(connection)
            while not self._closing:
                group = self._next_group()
                self._busy_since = time.monotonic()
                self._store(group)
                if not self._refused:
                    self._room.make_reserve()
                    if not connection.in_transaction:
                        self._room.give_back(self._queue.empty)
                self._busy_since = None
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
        if (due := self._room.reserve_due_seconds) is not None:
            waits.append(due)
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
                    if self._kept:
                        self._refuse(str(error))
                    return
        pieces, self._kept = self._kept, []
        self._listener.on_stored(pieces)
        if self._refused and committed and self._room.is_there():
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
        had_reserve = self._room.give_up_reserve()
        self._room.empty_log()
        # What gentle mode has answered comes first: the numbers that it told must not go to the gaps.
        while not self._held and (self._let_go() or self._evict()):
            yield True
        if self._room.grow() or had_reserve:
            yield True

    def _let_go(self) -> bool:
        """Do what only makes room, one by one; tell whether the disk took any of it."""
        self._room.grow_by_a_gap()
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
        try:
            self._connection.execute("BEGIN")
            self._do(piece)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back([piece])
            if trouble_of(error) is Trouble.CORRUPT:
                raise
            return False
        finally:
            self._room.grow_no_more()
        return True

    def _evict(self) -> bool:
        self._room.grow_by_a_gap()
        room = Piece(self._listener.make_room)
        if not self._do_apart(room):
            return False
        self._listener.on_stored([room])
        return bool(room.result)

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

    # -- the end ---------------------------------------------------------------------

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
