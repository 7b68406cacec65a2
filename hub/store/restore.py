"""Puts a backup in the place of the hub's database. What was there before is set aside, never deleted.

The whole work is done on a copy beside the database: brought up to this hub's schema, its open tasks judged
(`hub.rules.restored`), and noted in its audit trail. Only then it takes the database's name, in one step.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import update
from sqlalchemy.exc import DatabaseError

from broker.clock import wall_ms
from broker.errors import InvalidInput
from hub.errors import NoLock, RestoreRefused
from hub.kept_files import PRIVATE, give
from hub.rules.audit import Entry
from hub.rules.restored import restored
from hub.rules.task import TaskState
from hub.store import audit, backup, cases
from hub.store.accounts import count_generations_anew
from hub.store.aside import put_key, set_aside
from hub.store.engine import open_engine, revisions
from hub.store.files import beside
from hub.store.lock import hold
from hub.store.schema import enrolments
from hub.store.tasks import unended

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

JUDGED_AT_ONCE = 500
"""How many tasks are judged at a time: they are loaded with all that they hold."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to.

    Attributes:
        about: What the backup says of itself.
        set_aside: Where that is which was there before.
        unknown: How many tasks nobody can say of whether they ran since.
        cancelled: How many tasks for each matching worker were given up.

    """

    about: backup.About
    set_aside: tuple[Path, ...]
    unknown: int
    cancelled: int


def restore(file: Path, database: Path, key_file: Path, *, replace: bool, complete: bool, who: str) -> Restored:
    """Make `database` and `key_file` what they were when the backup `file` was made.

    Args:
        file: A backup.
        database: Where the hub's database belongs.
        key_file: Where its key belongs.
        replace: Whether to set aside what is there.
        complete: Whether no hub has worked since the backup was made, so that it lacks nothing.
        who: Who does it, for the audit trail.

    Raises:
        RestoreRefused: If nothing was changed; the text says why.
        DatabaseInUse: If a hub runs on that database.

    """
    about = read(file)
    try:
        with hold(database, "edge-hub restore"):
            _must_be_free(database, key_file, about, replace=replace)
            new = database.with_name(f".{database.name}.{secrets.token_hex(4)}")
            try:
                unknown, cancelled = _prepare(file, new, about, complete=complete, who=who)
                aside = put_key(key_file, about.key) + set_aside(database)
                new.replace(database)
                backup.write_out(database.parent)
            finally:
                for path in beside(new):
                    path.unlink()
    except (OSError, sqlite3.Error, DatabaseError, InvalidInput, NoLock) as error:
        raise RestoreRefused(f"{file} was not restored to {database}: {error}") from None
    return Restored(about, aside, unknown, cancelled)


def read(file: Path) -> backup.About:
    """Return what a backup says of itself, once it is found sound. Raises `RestoreRefused`."""
    if not file.is_file():
        raise RestoreRefused(f"{file} is not there")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            told = dict(database.execute("SELECT name, value FROM backup").fetchall())
            about = backup.About(*(told[name] for name in (backup.MADE_AT, backup.VERSION, backup.SCHEMA, backup.KEY)))
            (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except (sqlite3.Error, KeyError) as error:
        raise RestoreRefused(f"{file} cannot be read as what `edge-hub backup` makes: {error}") from None
    if said != "ok":
        raise RestoreRefused(f"{file} is damaged, take an older backup: {said}")
    known = revisions()
    if about.schema not in known:
        raise RestoreRefused(
            f"{file} was made by edge-hub {about.version}, with schema {about.schema}; this one knows schemas up to "
            f"{max(known)}: install {about.version} or newer, then restore"
        )
    return about


def _must_be_free(database: Path, key_file: Path, about: backup.About, *, replace: bool) -> None:
    if replace:
        return
    if found := beside(database):
        raise RestoreRefused(f"{found[0]} is there already: with --replace it is set aside, and the backup takes over")
    if about.key is not None and key_file.exists() and key_file.read_bytes() != about.key:
        raise RestoreRefused(f"{key_file} is there already, and is another: with --replace it is set aside")


def _prepare(file: Path, new: Path, about: backup.About, *, complete: bool, who: str) -> tuple[int, int]:
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    with file.open("rb") as source, os.fdopen(descriptor, "wb") as copy:
        give(descriptor, new.parent.stat())
        shutil.copyfileobj(source, copy, 1024 * 1024)
    with closing(sqlite3.connect(new)) as copied:
        copied.execute("PRAGMA secure_delete=ON")
        copied.execute("DROP TABLE backup")  # the key belongs in its own file, and in no free page of this one
    engine = open_engine(f"sqlite:///{new}")
    try:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            counts = (0, 0) if complete else _judge(connection, about)
            if not complete:
                _take_back_tokens(connection)
                count_generations_anew(connection, wall_ms())
            made = at(about.made_at_ms)
            audit.write(connection, Entry(who, "hub.restored", None, detail=f"from the backup of {made}"))
    finally:
        engine.dispose()
    with closing(sqlite3.connect(new)) as copied:
        copied.execute("PRAGMA journal_mode=DELETE")  # one file, which one step puts in its place
    backup.write_out(new)
    return counts


def _take_back_tokens(connection: Connection) -> None:
    """Let no enrolment token be good that was open in the backup: it may have been used since, and is good once."""
    open_ones = (enrolments.c.used_ms.is_(None), enrolments.c.revoked_ms.is_(None))
    connection.execute(update(enrolments).where(*open_ones).values(revoked_ms=wall_ms()))


def _judge(connection: Connection, about: backup.About) -> tuple[int, int]:
    """Judge what had not ended. Return how many tasks became unknown, and how many were cancelled."""
    why = f"this hub was restored from the backup of {at(about.made_at_ms)}: the task may have run since"
    open_tasks = [task.id for task in unended(connection) if not task.idempotent]
    moved = []
    for start in range(0, len(open_tasks), JUDGED_AT_ONCE):
        before = cases.load(connection, open_tasks[start : start + JUDGED_AT_ONCE])
        after = {task: restored(case, why, wall_ms()) for task, case in before.items()}
        moved += cases.save(connection, before, after)
    states = [change.after.state for change in moved]
    return states.count(TaskState.UNKNOWN), states.count(TaskState.CANCELLED)


def at(milliseconds: int) -> str:
    """Write a time as people and programs read it: 2026-11-26T03:15:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))
