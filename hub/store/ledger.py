"""The one writer: a thread that commits whatever is queued as one transaction (group commit).

An fsync costs as much for a hundred rows as for one, so work that arrives while a commit is under way shares the next.
Work is done in the order of submission. Each piece has a savepoint of its own: one that fails takes nothing with it.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from broker.log import get_logger
from hub.errors import LedgerClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

MAX_GROUP = 256
"""Pieces of work in one transaction, so that the first of them does not wait for ever."""

Result = TypeVar("Result")

log = get_logger(__name__)


@dataclass(slots=True)
class _Piece:
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class Ledger:
    """Commits pieces of work, many at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._closed = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    @property
    def stuck_seconds(self) -> float:
        """For how long the writer has been at one transaction; infinity, if its thread died without a word."""
        if not self._thread.is_alive():
            return 0.0 if self._closed else math.inf
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def open(self) -> None:
        """Start the writer."""
        self._thread.start()

    def close(self) -> None:
        """Commit what was submitted, and stop. Blocks until it is done."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def submit(self, work: Callable[[Connection], Result]) -> asyncio.Future[Result]:
        """Queue `work`; the future has its result once the transaction that holds it is committed.

        Raises:
            LedgerClosed: If the ledger has stopped.

        """
        if self._closed:
            msg = "the ledger is closed"
            raise LedgerClosed(msg)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._queue.put(_Piece(work, future, loop))
        return future

    async def commit(self, work: Callable[[Connection], Result]) -> Result:
        """Do `work` in the next transaction and return its result after the commit.

        Shielded: a caller that is cancelled does not undo what others may have been told.
        """
        return await asyncio.shield(self.submit(work))

    def _run(self) -> None:
        with self._engine.connect().execution_options(writes=True) as connection:
            while (group := self._next_group()) is not None:
                self._busy_since = time.monotonic()
                self._commit(connection, group)
                self._busy_since = None

    def _next_group(self) -> list[_Piece] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                piece = self._queue.get_nowait()
            except queue.Empty:
                break
            if piece is None:
                self._queue.put(None)  # for the next round: this group first
                break
            group.append(piece)
        return group

    def _commit(self, connection: Connection, group: list[_Piece]) -> None:
        try:
            with connection.begin():
                for piece in group:
                    self._do(connection, piece)
        except Exception as error:  # noqa: BLE001  a failed COMMIT (disk full, I/O error) fails each piece, and no more
            log.error("a transaction failed", pieces=len(group), error=str(error))  # noqa: TRY400
            for piece in group:
                piece.error = piece.error or error
            connection.invalidate()  # SQLite may have left the transaction open: the next begins on a new connection
        loop = group[0].loop
        loop.call_soon_threadsafe(_answer, group)

    def _do(self, connection: Connection, piece: _Piece) -> None:
        try:
            with connection.begin_nested():
                piece.result = piece.work(connection)
        except Exception as error:  # noqa: BLE001  it belongs to who submitted the work
            piece.error = error


def _answer(group: list[_Piece]) -> None:
    for piece in group:
        if piece.future.done():
            continue
        if piece.error is not None:
            piece.future.set_exception(piece.error)
        else:
            piece.future.set_result(piece.result)
