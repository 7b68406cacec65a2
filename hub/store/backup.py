"""Copies the hub's database while a hub works on it, and the hub's key with it.

A backup is one file: the database as it was at one moment, with a table `backup` more, which holds when and by what it
was made and the key (`hub.key`), without which no worker's password could be told again. So it is as secret as the key.

SQLite's backup API copies page by page from a snapshot: in WAL mode that holds up no writer. What could is the disk: so
the copy is written out a piece at a time, and not all of it at the end, when the hub's own fsync would wait for it.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker import __version__
from broker.clock import wall_ms
from hub.errors import BackupFailed
from hub.kept_files import PRIVATE, give

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGES_A_STEP = 2048
"""How much is written before it is forced to the disk: 8 MiB, which takes an SD card half a second."""

BUSY_SECONDS = 30.0
_NAMED = re.compile(r"hub-\d{8}T\d{6}\.\d{3}Z\.db")
MADE_AT, VERSION, SCHEMA, KEY = "made_at_ms", "version", "schema", "key"


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself. `schema` is the database's revision; `key` is None where the hub had none yet."""

    made_at_ms: int
    version: str
    schema: str
    key: bytes | None


def back_up(database: Path, key_file: Path, to: Path) -> About:
    """Copy `database` to a new file `to`, which is there, whole and sound, or not at all.

    Args:
        database: The file of a hub, which may be at work.
        key_file: The hub's key; where there is none yet, the backup has none.
        to: A file that does not exist.

    Raises:
        BackupFailed: If there is no backup; the text says why.

    """
    if to.exists():
        raise BackupFailed(f"{to} is there already: give another name, or a directory to name it for you")
    if not database.is_file():
        raise BackupFailed(f"{database} is not there: is this the hub's directory, and its --config?")
    unfinished = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
    try:
        _create(unfinished)
        about = _copy(database, key_file, unfinished)
        _must_be_sound(unfinished)
        write_out(unfinished)
        unfinished.rename(to)
        write_out(to.parent)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"{database} was not copied to {to}: {error}") from None
    finally:
        for path in unfinished.parent.glob(f"{unfinished.name}*"):
            path.unlink(missing_ok=True)
    return about


def name_in(folder: Path) -> Path:
    """Return a new name for a backup that is made now, by which backups are in order."""
    now = wall_ms()
    return folder / f"hub-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now / 1000))}.{now % 1000:03}Z.db"


def drop_old(folder: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` backups of a folder, and return them: what `name_in` named, and nothing else."""
    gone = sorted(path for path in folder.iterdir() if _NAMED.fullmatch(path.name))[:-keep]
    for path in gone:
        path.unlink()
    return gone


def _create(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    give(descriptor, path.parent.stat())
    os.close(descriptor)


def _copy(database: Path, key_file: Path, to: Path) -> About:
    with (
        closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as source,
        closing(sqlite3.connect(to)) as copy,
    ):
        copy.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8000")
        source.execute("BEGIN")  # what it reads first is the moment that is copied, however long the copy takes
        schema = _schema(source)
        made_at_ms = wall_ms()
        source.backup(copy, pages=PAGES_A_STEP, progress=_writing_out(to))
        copy.execute("PRAGMA journal_mode=DELETE")  # the source's WAL mode came along; a backup is one file
        about = About(made_at_ms, __version__, schema, _key(key_file))
        _tell(copy, about)
    return about


def _writing_out(path: Path) -> Callable[[int, int, int], None]:
    def step(_status: int, _left: int, _total: int) -> None:
        write_out(path)

    return step


def write_out(path: Path) -> None:
    """Force a file, or what a folder names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _schema(database: sqlite3.Connection) -> str:
    try:
        (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.OperationalError, TypeError):
        raise BackupFailed("it is not the database of a hub: it has no schema of ours") from None
    return str(revision)


def _key(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _tell(copy: sqlite3.Connection, about: About) -> None:
    told = {MADE_AT: about.made_at_ms, VERSION: about.version, SCHEMA: about.schema, KEY: about.key}
    with copy:
        copy.execute("DROP TABLE IF EXISTS backup")
        copy.execute("CREATE TABLE backup (name TEXT PRIMARY KEY, value)")
        copy.executemany("INSERT INTO backup VALUES (?, ?)", told.items())


def _must_be_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        raise BackupFailed(f"the database is damaged, and a backup of it would be too: {said}")
