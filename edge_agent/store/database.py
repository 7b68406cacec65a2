"""The agent's one SQLite file, as the event loop sees it; `edge_agent.store.writer` is the one thread that writes it.

Callers submit pieces of work, and whatever is queued is committed as one transaction (group commit). What becomes true
in memory is told in the event loop, after the commit.
"""

from __future__ import annotations

import asyncio
import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from broker.log import get_logger
from edge_agent.errors import StorageClosed, StorageCorrupt, StorageError
from edge_agent.store import notes
from edge_agent.store.reserve import Reserve
from edge_agent.store.sqlite import Trouble, connect, trouble_of
from edge_agent.store.transaction import Piece, Transaction
from edge_agent.store.writer import Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Database", "Transaction", "connect"]

Result = TypeVar("Result")

log = get_logger(__name__)


class Database:
    """Commits pieces of work, many at a time.

    Args:
        path: The file. Its directory is made if there is none.
        hold_seconds: None commits before it answers. Else work is answered at once, and committed within this time:
            for disks that wear out (WORKER_BUFFER_MODE=gentle).

    Attributes:
        full: Whether the disk takes nothing, or did not when it was last tried.
        on_storage: Called in the event loop whenever `full` has changed.
        broken: Set once the file turned out to be damaged: nothing can be stored, and `reason` says what SQLite said.

    """

    def __init__(self, path: Path, *, hold_seconds: float | None = None) -> None:
        self.path = path
        self.full = False
        self.on_storage: Callable[[], None] = lambda: None
        self.broken = asyncio.Event()
        self.reason = ""
        self.make_room: Callable[[Transaction], bool] = lambda _: False
        self._hold_seconds = hold_seconds
        self._writer = Writer(path, Reserve(path.parent), self, hold_seconds=hold_seconds)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def stuck_seconds(self) -> float:
        """For how long the writer has been at one group of work; infinity, if its thread died without a word."""
        if self._thread is not None and self._thread.is_alive():
            return self._writer.busy_seconds
        return 0.0 if self._thread is None or self._closed.is_set() else math.inf

    def open(self) -> None:
        """Open or make the file, bring its schema up to date, and start the writer.

        Raises:
            StorageCorrupt: If it is damaged.
            StorageError: If the file cannot be opened or written.

        """
        self._loop = asyncio.get_running_loop()
        try:
            connection = self._connect()
        except StorageCorrupt as error:
            self.reason = error.reason
            raise
        self._thread = threading.Thread(target=self._writer.run, args=(connection,), name="database", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Commit what was submitted, and close the file."""
        if self._thread is None:
            return
        if not self._closed.is_set():
            self._put(Piece(notes.end_run))
            self._closed.set()
        self._writer.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    async def commit(self, work: Callable[[Transaction], Result], *, durable: bool = False) -> Result:
        """Do `work` in the next transaction, and return its result after the commit.

        Shielded: work that was submitted is done, whether or not the caller still waits.

        Args:
            work: What is done; it may be called again if its transaction fails.
            durable: On the disk before it is answered, whatever the mode.

        Raises:
            StorageError: If the transaction could not be committed.

        """
        return await _shielded(self.submit(work, durable=durable))

    async def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work`, which changes nothing, behind all that was submitted before; on a full disk too."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put(Piece(work, future, reads=True))
        return await _shielded(future)

    def submit(self, work: Callable[[Transaction], Result], *, durable: bool = False) -> asyncio.Future[Result]:
        """Queue `work`; the future has its result once the transaction that holds it is committed."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put(Piece(work, future, durable=durable))
        return future

    def post(
        self,
        work: Callable[[Transaction], object],
        *,
        frees: bool = False,
        instead: Callable[[], Callable[[Transaction], object] | None] | None = None,
    ) -> None:
        """Queue `work` that nobody waits for, from any thread; on a full disk what only `frees` room goes first.

        Where the disk takes nothing it is done later, before anything else; unless there is something to do `instead`,
        which is asked for in the writer's thread.
        """
        self._put(Piece(work, frees=frees, instead=instead))

    def allow_holding(self, allowed: bool, /) -> None:  # noqa: FBT001  it is what is said, not an option
        """Say whether gentle mode may keep work in memory: while the hub commits it promptly."""
        if self._hold_seconds is not None and self._writer.holding_allowed != allowed:
            self._writer.holding_allowed = allowed
            if not allowed and not self._closed.is_set():
                self._put(Piece(lambda _: None, durable=True))  # what is held goes to the disk now

    def _put(self, piece: Piece) -> None:
        if self._closed.is_set():
            raise StorageCorrupt(self.path, self.reason) if self.reason else StorageClosed(self.path)
        self._writer.put(piece)

    def _connect(self) -> sqlite3.Connection:
        """Open the file, where the disk is full with the room of the reserve."""
        try:
            connection = connect(self.path)
        except StorageError as error:
            reserve = Reserve(self.path.parent)
            if trouble_of(error.__cause__ or error) is not Trouble.NO_ROOM or not reserve.give_up():
                raise
            connection = connect(self.path)
        try:
            notes.begin_run(connection, hold_seconds=self._hold_seconds)
        except Exception as error:
            connection.close()
            kind = StorageCorrupt if trouble_of(error) is Trouble.CORRUPT else StorageError
            raise kind(self.path, str(error)) from error
        return connection

    # -- what the writer says, in its thread -----------------------------------------------------------------------

    def on_stored(self, pieces: Sequence[Piece]) -> None:
        """Tell everybody whose work is stored, or was wrong."""
        self._in_loop(partial(_answer, pieces))

    def on_full(self, reason: str) -> None:
        """Note that the disk takes nothing."""
        if not self.full:
            self.full = True
            log.error("storage_full", path=str(self.path), reason=reason)
            self._in_loop(self._tell_storage)

    def on_room(self) -> None:
        """Note that the disk takes what is written."""
        if self.full:
            self.full = False
            log.warning("storage_ok", path=str(self.path))
            self._in_loop(self._tell_storage)

    def on_corrupt(self, reason: str) -> None:
        """Take nothing more: the file is damaged."""
        self.reason = reason
        self._closed.set()
        self._in_loop(self.broken.set)

    def _tell_storage(self) -> None:
        self.on_storage()

    def _in_loop(self, action: Callable[[], Any]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)


async def _shielded(future: asyncio.Future[Result]) -> Result:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_tell_nobody)
        raise


def _tell_nobody(future: asyncio.Future[Any]) -> None:
    """Log the failure of work whose caller is gone."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("not_stored", reason=str(error))


def _answer(pieces: Sequence[Piece]) -> None:
    """Tell everybody, in the event loop: first what is committed, then who waits for it."""
    for piece in pieces:
        if piece.error is None:
            for action in piece.committed:
                action()
    for piece in pieces:
        if piece.future is None:
            if piece.error is not None:
                log.error("not_stored", reason=str(piece.error))
        elif not piece.future.done():
            if piece.error is not None:
                piece.future.set_exception(piece.error)
            else:
                piece.future.set_result(piece.result)
