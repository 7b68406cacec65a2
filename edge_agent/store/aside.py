"""A damaged file is set aside under another name, and a new one takes its place (DESIGN §5).

What is still legible of it goes along: the ids of tasks that were held or have ended, so that none of them runs twice,
and what the hub has pushed to be fired here, so that a site that is alone goes on with it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.errors import StorageError
from edge_agent.store import notes
from edge_agent.store.sqlite import connect, connect_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEPT_FILES = 5
READ_SECONDS = 3.0
"""How long the old file is read: online again within seconds."""

_STEPS_BETWEEN_LOOKS = 10_000
_WITH_IT = ("-wal", "-shm")
_IDS = (
    "SELECT task, attempt, digest, at FROM ended ORDER BY at DESC",
    "SELECT task, attempt, digest, at FROM ended",  # without its index
    "SELECT task, attempt, digest, accepted_at FROM inbox",
)
_REMEMBER = """
    INSERT INTO ended (task, attempt, digest, at) VALUES (?, ?, ?, ?)
    ON CONFLICT (task) DO UPDATE SET attempt = excluded.attempt, digest = excluded.digest, at = excluded.at
    WHERE excluded.attempt >= attempt
"""

_SCHEDULES = (
    ("SELECT revision, jobs FROM pushed_schedules LIMIT 1", (str, str), "INSERT INTO pushed_schedules VALUES (?, ?)"),
    (
        "SELECT job, version, base, task FROM schedule_marks",
        (str, str, int, str | None),
        "INSERT OR REPLACE INTO schedule_marks (job, version, base, task) VALUES (?, ?, ?, ?)",
    ),
)

log = get_logger(__name__)

Row = tuple[object, ...]


def files_set_aside(path: Path) -> list[Path]:
    """Return the files that the database at `path` has replaced, oldest first."""
    found = path.parent.glob(f"{path.name}.corrupt-*")
    return sorted(file for file in found if not file.name.endswith(_WITH_IT))


def begin_anew(path: Path, reason: str) -> Path:
    """Set the file at `path` aside, and make a new one that knows what is still legible; return the old one's name.

    Raises:
        StorageError: If that cannot be done.

    """
    aside = _free_name(path)
    try:
        for end in ("", *_WITH_IT):
            file = path.with_name(path.name + end)
            if file.exists():
                file.rename(aside.with_name(aside.name + end))
        for old in files_set_aside(path)[:-KEPT_FILES]:
            _remove(old)
    except OSError as error:
        raise StorageError(
            path, f"the file is damaged ({reason}) and cannot be set aside ({error.strerror})"
        ) from error
    log.error("journal_corrupt", path=str(path), reason=reason, set_aside=aside.name)
    ids = list(_legible(aside))
    schedules = [(insert, list(_legible_rows(aside, query, types))) for query, types, insert in _SCHEDULES]
    connection = connect(path)
    try:
        connection.execute("BEGIN")
        connection.executemany(_REMEMBER, ids)
        for insert, rows in schedules:
            connection.executemany(insert, rows)
        notes.write(connection, notes.SET_ASIDE, aside.name)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StorageError(path, str(error)) from error
    finally:
        connection.close()
    log.info("ids_carried_over", count=len(ids))
    return aside


def _free_name(path: Path) -> Path:
    at = datetime.now(UTC)
    while True:
        name = path.with_name(f"{path.name}.corrupt-{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03d}Z")
        if not name.exists():
            return name
        at = datetime.now(UTC)


def _remove(old: Path) -> None:
    for end in ("", *_WITH_IT):
        old.with_name(old.name + end).unlink(missing_ok=True)


def _legible(file: Path) -> Iterator[Row]:
    """Yield the ids that can be read from a damaged file."""
    deadline = time.monotonic() + READ_SECONDS
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect_to_read(file)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        for query in _IDS:
            with contextlib.suppress(sqlite3.Error):  # the rest of this table cannot be read, or not in time
                for row in connection.execute(query):
                    if _is_id(row):
                        yield row


def _legible_rows(file: Path, query: str, types: tuple[object, ...]) -> Iterator[Row]:
    """Yield the rows of a small table that can be read from a damaged file."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect_to_read(file)) as connection:
        for row in connection.execute(query):
            if all(isinstance(value, kind) for value, kind in zip(row, types, strict=True)):  # type: ignore[arg-type]
                yield row


def _is_id(row: Row) -> bool:
    return [type(value) for value in row] == [str, int, str, int]
