"""The doctor at the database: the file, its directory, its disk, its schema, and who has it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from broker.doctor import Finding, bad, ok, warn
from hub.rules.secrets import KEY_BYTES
from hub.store.engine import revisions
from hub.store.files import database_file, key_file
from hub.store.lock import holder_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hub.settings import HubSettings

LOW_BYTES = 500_000_000
FULL_BYTES = 50_000_000
BY_OTHERS = 0o077


def check_database(settings: HubSettings) -> Iterator[Finding]:
    """Look at the database of a hub with these settings."""
    file = database_file(settings.database_url)
    yield from _folder(file.parent)
    if not _may_use(file.parent):
        return
    if not file.exists():
        yield warn(
            f"there is no database at {file} yet", "the first start makes it; else check HUB_DATABASE_URL and --config"
        )
        return
    yield from _holder(file)
    yield from _content(file)
    yield from _secrecy(file)
    yield from _key(key_file(settings), file)


def _folder(folder: Path) -> Iterator[Finding]:
    if not _may_use(folder):
        yield bad(f"{folder} cannot be written by this user", f"run this as the hub's user, or give {folder} to it")
        return
    if not folder.is_dir():
        yield warn(f"{folder} does not exist", "the first start makes it; else check HUB_DATABASE_URL")
        return
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB are free at {folder}"
    if free < FULL_BYTES:
        yield bad(said, "make room: without it nothing is committed, and workers keep what they have to tell")
    elif free < LOW_BYTES:
        yield warn(said, "make room before it is full")
    else:
        yield ok(said)


def _may_use(folder: Path) -> bool:
    """Tell whether this user may look into a folder and write there; one that is not there yet is let pass."""
    try:
        there = folder.exists()
    except PermissionError:
        return False
    return not there or os.access(folder, os.W_OK | os.X_OK, effective_ids=True)


def _holder(file: Path) -> Iterator[Finding]:
    try:
        holder = holder_of(file)
    except OSError as error:
        yield warn(f"whether a hub runs cannot be seen: {error}", "run this as the hub's user")
        return
    yield ok(f"in use by {holder}") if holder else warn(f"no hub serves {file}", "start one: edge-hub serve")


def _content(file: Path) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        yield bad(f"{file} cannot be read: {error}", _RESTORE)
        return
    took = time.monotonic() - began
    size = file.stat().st_size / 1e6
    yield ok(f"{file}, {size:.1f} MB, is sound (checked in {took:.1f} s)") if said == "ok" else bad(said, _RESTORE)
    schema, known = row[0] if row else "none", revisions()
    if schema not in known:
        yield bad(
            f"its schema is {schema}, of a newer hub; this one knows up to {known[-1]}", "install the newer version"
        )
    elif schema != known[-1]:
        yield ok(f"its schema is {schema}; the next start brings it up to {known[-1]}")


def _secrecy(file: Path) -> Iterator[Finding]:
    mode = file.stat().st_mode
    if mode & BY_OTHERS and file.parent.stat().st_mode & BY_OTHERS:
        yield warn(f"{file} is open to other users of this machine (mode {mode & 0o777:04o})", f"chmod 600 {file}")


def _key(file: Path, database: Path) -> Iterator[Finding]:
    if file.exists():
        try:
            size = len(file.read_bytes())
        except OSError as error:
            yield bad(f"the hub's key {file} cannot be read: {error.strerror}", "run this as the hub's user")
            return
        if size != KEY_BYTES:
            yield bad(f"the hub's key {file} has {size} bytes, not {KEY_BYTES}", _KEY_BACK)
        yield from _secrecy(file)
    elif _has_accounts(database):
        yield bad(f"there are accounts, and no key at {file}: no password can be told again", _KEY_BACK)


def _has_accounts(database: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            return opened.execute("SELECT 1 FROM accounts LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return False


_RESTORE = "stop the hub, and edge-hub restore --replace the last backup; workers tell what they still have"
_KEY_BACK = "bring the key back from a backup (edge-hub restore), or set HUB_KEY_FILE; else enrol all workers anew"
