"""Reads every event that a journal holds, also from a file that is damaged: what cannot be read is counted."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pydantic_core import from_json, to_json

from edge_agent.store.sqlite import connect_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS_AT_ONCE = 256

_ROWS = "SELECT seq, coalesce(CAST(body AS BLOB), x'') FROM journal WHERE seq BETWEEN ? AND ? ORDER BY seq"
_EDGES = (
    "SELECT min(seq), max(seq) FROM journal",
    "SELECT (SELECT value + 1 FROM about WHERE name = 'settled'), seq FROM sqlite_sequence WHERE name = 'journal'",
    "SELECT 1, seq FROM sqlite_sequence WHERE name = 'journal'",
)


@dataclass(slots=True)
class Exported:
    """How an export went: events written, and what could not be."""

    events: int = 0
    unreadable: int = 0


def export(file: Path, out: IO[bytes]) -> Exported:
    """Write every event of `file` to `out`, a JSON object to a line: stream and number, then the event.

    Raises:
        sqlite3.Error: If nothing of it can be read.

    """
    done = Exported()
    with contextlib.closing(connect_to_read(file)) as connection:
        stream = to_json(_stream(connection)).decode()
        first, last = _edges(connection)
        expected = _rows(connection)
        for number, body in _events(connection, first, last, done):
            if _is_object(body):
                out.write(f'{{"stream":{stream},"number":{number},'.encode() + body[1:] + b"\n")
                done.events += 1
            else:
                done.unreadable += 1
    if expected is not None:  # how many rows there were is better known than how many numbers fell to a damaged page
        done.unreadable = max(0, expected - done.events)
    return done


def _events(connection: sqlite3.Connection, first: int, last: int, done: Exported) -> Iterator[tuple[int, bytes]]:
    """Yield what can be read; pages that cannot are gone around, a number at a time."""
    for start in range(first, last + 1, NUMBERS_AT_ONCE):
        end = min(last, start + NUMBERS_AT_ONCE - 1)
        try:
            rows = connection.execute(_ROWS, (start, end)).fetchall()
        except sqlite3.Error:
            rows = []
            for number in range(start, end + 1):
                try:
                    rows += connection.execute(_ROWS, (number, number)).fetchall()
                except sqlite3.Error:
                    done.unreadable += 1
        yield from rows


def _edges(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the first and the last number that there can be, from whatever can be read."""
    problem: sqlite3.Error | None = None
    for query in _EDGES:
        try:
            row = connection.execute(query).fetchone()
        except sqlite3.Error as error:
            problem = error
            continue
        if row is not None and None not in row:
            return int(row[0]), int(row[1])
    if problem is not None:
        raise problem
    return 1, 0


def _stream(connection: sqlite3.Connection) -> str | None:
    with contextlib.suppress(sqlite3.Error):
        row = connection.execute("SELECT value FROM about WHERE name = 'stream'").fetchone()
        return str(row[0]) if row else None
    return None


def _rows(connection: sqlite3.Connection) -> int | None:
    with contextlib.suppress(sqlite3.Error):
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal.rows'").fetchone()
        return int(row[0]) if row else None
    return None


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(from_json(body), dict)
    except ValueError:
        return False
