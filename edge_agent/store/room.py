"""The room that the agent's file has on its disk: its reserve, how far it may grow, and what it gives back."""

from __future__ import annotations

import shutil
import sqlite3
import time
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.store.sqlite import WAL_BYTES, Trouble, give_back, has_much_to_give_back, limit_growth, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_agent.store.reserve import Reserve

RESERVE_INTERVAL_SECONDS = 60.0
"""How often a reserve that was given up is made again."""

GAP_BYTES = 64 * 1024
"""What the file may grow by for the gap that tells what was dropped: the first rows that go may leave no page empty."""

PROBE_BYTES = 64 * 1024
"""What must fit before a disk is not called full any more."""

log = get_logger(__name__)


class Room:
    """The room of one file, for the thread that writes it.

    Args:
        path: The file.
        reserve: What is given up on a full disk.

    """

    def __init__(self, path: Path, reserve: Reserve) -> None:
        self._path = path
        self._reserve = reserve
        self._reserve_at = 0.0
        self._connection: sqlite3.Connection

    def open(self, connection: sqlite3.Connection) -> None:
        """Begin to look after the file that `connection` writes."""
        self._connection = connection
        self.make_reserve()

    # -- on a full disk ----------------------------------------------------------------------------------------------

    def give_up_reserve(self) -> bool:
        """Give the reserve to the file; tell whether there was one."""
        had_reserve = self._reserve.give_up()
        if had_reserve:
            self._reserve_at = time.monotonic() + RESERVE_INTERVAL_SECONDS
            log.warning("storage_low", path=str(self._path), reason="the disk is full: the reserve was given up")
        return had_reserve

    def empty_log(self) -> None:
        """Empty the write-ahead log into the file, so that its room can be used again."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        except sqlite3.Error as error:
            _unless_corrupt(error)
            log.debug("not_checkpointed", reason=str(error))  # the log stays as it is, and nothing in it is lost

    def grow(self) -> bool:
        """Let the file grow by what is free, but for what the log needs; tell whether it may grow by anything."""
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError:
            return False
        return limit_growth(self._connection, max(0, free - 2 * WAL_BYTES))

    def grow_by_a_gap(self) -> None:
        """Let the file grow by as much as the making of room may need."""
        limit_growth(self._connection, GAP_BYTES)

    def grow_no_more(self) -> None:
        """Let the file have what it has."""
        limit_growth(self._connection, 0)

    def is_there(self) -> bool:
        """Tell whether there is room for more than the few bytes that always fit somewhere."""
        connection = self._connection
        try:
            self.grow()
            connection.execute("BEGIN")
            connection.execute("INSERT INTO about (name, value) VALUES ('probe', zeroblob(?))", (PROBE_BYTES,))
            connection.execute("DELETE FROM about WHERE name = 'probe'")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            _unless_corrupt(error)
            return False
        return True

    # -- otherwise ---------------------------------------------------------------------------------------------------

    @property
    def reserve_due_seconds(self) -> float | None:
        """In how long the reserve is to be made again; None where it is there."""
        return None if self._reserve.is_there else self._reserve_at - time.monotonic()

    def make_reserve(self) -> None:
        """Make the reserve again, if it is time and there is room."""
        if not self._reserve.is_there and time.monotonic() >= self._reserve_at:
            self._reserve_at = time.monotonic() + RESERVE_INTERVAL_SECONDS
            if self._reserve.make():
                limit_growth(self._connection, None)

    def give_back(self, is_idle: Callable[[], bool]) -> None:
        """Give much free space back to the disk, in steps, for as long as nothing else waits to be written."""
        try:
            more = is_idle() and has_much_to_give_back(self._connection)
            while more and is_idle():
                more = give_back(self._connection)
        except sqlite3.Error as error:
            _unless_corrupt(error)
            log.debug("space_not_given_back", reason=str(error))


def _unless_corrupt(error: sqlite3.Error) -> None:
    if trouble_of(error) is Trouble.CORRUPT:
        raise error
