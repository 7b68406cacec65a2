"""SQLite files: how ours is opened, how anybody's is read, and what an error of SQLite's means."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from enum import Enum, auto
from typing import TYPE_CHECKING

from edge_agent.errors import StorageCorrupt, StorageError
from edge_agent.store import notes

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 4
"""How many steps `edge_agent.store.schema` has."""

BUSY_TIMEOUT_SECONDS = 5.0
PAGE_BYTES = 4096
MOST_PAGES = 0xFFFFFFFE
WAL_PAGES = 100
WAL_BYTES = WAL_PAGES * PAGE_BYTES
"""How long the write-ahead log grows before it is emptied into the file.

On a full disk the reserve has room for the log at its longest, and for as much growth of the file; what the log has
grown to it keeps, for the next transactions.
"""

MANY_PAGES = 2048
FREE_SHARE = 0.75
SPARE_PAGES = 512
STEP_PAGES = 256
"""Free pages (of 4 KiB) are given back where there are many, and they are most of the file: little must be moved then.

Some are kept for what comes next; and a step is short, so that others need not wait.
"""


class Trouble(Enum):
    """What an error is about, where it is not the statement's own fault."""

    CORRUPT = auto()
    NO_ROOM = auto()
    IN_THE_WAY = auto()


_TROUBLES = {
    sqlite3.SQLITE_CORRUPT: Trouble.CORRUPT,
    sqlite3.SQLITE_NOTADB: Trouble.CORRUPT,
    sqlite3.SQLITE_FULL: Trouble.NO_ROOM,
    sqlite3.SQLITE_IOERR: Trouble.NO_ROOM,  # a quota comes as one; and where a disk fails, making room fails too
    sqlite3.SQLITE_BUSY: Trouble.IN_THE_WAY,
    sqlite3.SQLITE_LOCKED: Trouble.IN_THE_WAY,
    sqlite3.SQLITE_PROTOCOL: Trouble.IN_THE_WAY,
    sqlite3.SQLITE_CANTOPEN: Trouble.IN_THE_WAY,
    sqlite3.SQLITE_READONLY: Trouble.IN_THE_WAY,
    sqlite3.SQLITE_NOMEM: Trouble.IN_THE_WAY,
    sqlite3.SQLITE_ABORT: Trouble.IN_THE_WAY,
}


def trouble_of(error: BaseException) -> Trouble | None:
    """Tell what the storage suffers from; None where the error belongs to the statement, or is none of SQLite's."""
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _TROUBLES.get(code & 0xFF)  # the low byte is the primary code


def connect(path: Path) -> sqlite3.Connection:
    """Open or make the file and bring its schema up to date.

    Raises:
        StorageCorrupt: If it is damaged, or no database.
        StorageError: If it cannot be opened or written.

    """
    connection = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a file that has no page yet
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Debian's SQLite overwrites all that is deleted with zeros: more to write for each receipt, and on a full disk
        # no room to make room. FAST does it only where the page is written anyway.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        _migrate(connection)
        _allocate_log(path)
    except (OSError, sqlite3.Error) as error:
        if connection is not None:
            connection.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise (StorageCorrupt if trouble_of(error) is Trouble.CORRUPT else StorageError)(path, reason) from error
    return connection


def _allocate_log(path: Path) -> None:
    """Give the write-ahead log its room on the disk before it is needed: on a full disk even a deletion goes there.

    SQLite takes what it has not written itself for the end of the log. Where the system cannot do this, or the disk is
    full already, the reserve must do.
    """
    with contextlib.suppress(OSError, AttributeError), path.with_name(f"{path.name}-wal").open("r+b") as log:
        os.posix_fallocate(log.fileno(), 0, WAL_BYTES)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a file that an agent may have open too, to read only. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SECONDS)
    connection.isolation_level = None
    return connection


def limit_growth(connection: sqlite3.Connection, by: int | None) -> bool:
    """Let the file grow `by` so many bytes, or without a limit; tell whether it may grow by a page at all.

    On a full disk the log could not be emptied into a file that must grow for it, and there would be no way on. With a
    limit SQLite says sooner that it is full, while what the log holds still has its place in the file.
    """
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    most = MOST_PAGES if by is None else pages + by // PAGE_BYTES
    connection.execute(f"PRAGMA max_page_count = {most}").fetchone()
    return most > pages


def has_much_to_give_back(connection: sqlite3.Connection) -> bool:
    """Tell whether so much of the file is free that the disk should have it again."""
    free = _free_pages(connection)
    if free <= MANY_PAGES or not connection.execute("PRAGMA auto_vacuum").fetchone()[0]:
        return False
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    return free > FREE_SHARE * pages


def give_back(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the disk; tell whether there are more to give."""
    connection.execute(f"PRAGMA incremental_vacuum({STEP_PAGES})").fetchall()
    return _free_pages(connection) > SPARE_PAGES


def _free_pages(connection: sqlite3.Connection) -> int:
    pages: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return pages


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date. `user_version` says that it is, so that most starts load no tools for it."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    from sqlite_utils import Database as Tools  # noqa: PLC0415  3 MB

    from edge_agent.store.schema import migrations  # noqa: PLC0415

    migrations.apply(Tools(connection))
    if version == 0:
        notes.write(connection, notes.NEW, "yes")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
