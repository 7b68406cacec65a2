"""`edge-agent buffer`: what waits in a journal, whether or not its agent runs. The file is opened to be read only."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic_core import to_json

from broker.clock import now_ms
from broker.settings import fail
from edge_agent.rules.eviction import Class
from edge_agent.store.aside import files_set_aside
from edge_agent.store.export import export
from edge_agent.store.sqlite import connect_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.settings import WorkerSettings

_TIMES = "SELECT (SELECT at FROM journal ORDER BY seq LIMIT 1), (SELECT at FROM journal ORDER BY seq DESC LIMIT 1)"
_CLASSES = "SELECT class, count(*), coalesce(sum(length(body)), 0) FROM journal GROUP BY class ORDER BY class DESC"
_COUNTS = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM replies)"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many events, and how large."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """What an agent has not told yet. Times are RFC 3339, by the worker's clock."""

    file: str
    file_bytes: int
    mode: str
    limit_bytes: int
    stream: str
    settled: int
    newest: int
    waiting: Waiting
    classes: dict[str, Waiting]
    oldest_at: str | None
    newest_at: str | None
    tasks_held: int
    answers_waiting: int
    set_aside: list[str]


def show(settings: WorkerSettings, *, as_json: bool) -> None:
    """Print what waits."""
    with _reading(settings.database):
        found = look(settings)
    text = to_json(dataclasses.asdict(found), indent=2).decode() if as_json else "\n".join(lines(found, now_ms()))
    sys.stdout.write(f"{text}\n")


def write_events(file: Path) -> None:
    """Print every event of a journal as a line of JSON, and on standard error what could not be read."""
    with _reading(file):
        try:
            done = export(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it flushes at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    if done.unreadable:
        sys.stderr.write(f"{file}: {done.unreadable} of {done.events + done.unreadable} events cannot be read\n")


def look(settings: WorkerSettings) -> Buffer:
    """Read what waits. Raises `sqlite3.Error`."""
    file = settings.database
    with contextlib.closing(connect_to_read(file)) as connection:
        connection.execute("BEGIN")  # one view of it all
        about = dict(connection.execute("SELECT name, value FROM about"))
        counts = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
        oldest_at, newest_at = connection.execute(_TIMES).fetchone()
        tasks_held, answers_waiting = connection.execute(_COUNTS).fetchone()
        classes = {Class(kind).name.lower(): Waiting(rows, size) for kind, rows, size in connection.execute(_CLASSES)}
    return Buffer(
        file=str(file),
        file_bytes=sum(part.stat().st_size for part in (file, file.with_name(f"{file.name}-wal")) if part.exists()),
        mode=settings.buffer_mode,
        limit_bytes=int(settings.buffer_max_mb * 1e6),
        stream=about["stream"],
        settled=int(about["settled"]),
        newest=counts.get("journal", 0),
        waiting=Waiting(counts["journal.rows"], counts["journal.bytes"]),
        classes=classes,
        oldest_at=_time(oldest_at),
        newest_at=_time(newest_at),
        tasks_held=tasks_held,
        answers_waiting=answers_waiting,
        set_aside=[str(aside) for aside in files_set_aside(file)],
    )


def lines(found: Buffer, now: int) -> Iterator[str]:
    """Say what was found, for people."""
    yield found.file
    yield f"  waiting          {_waiting(found.waiting)}, of at most {_size(found.limit_bytes)}"
    for name, waiting in found.classes.items():
        yield f"    {name:<14} {_waiting(waiting)}"
    if found.oldest_at and found.newest_at:
        yield f"  oldest           {found.oldest_at} ({_age(found.oldest_at, now)})"
        yield f"  newest           {found.newest_at} ({_age(found.newest_at, now)})"
    yield f"  numbers          receipts up to {found.settled}, written up to {found.newest}, stream {found.stream}"
    yield f"  tasks held       {found.tasks_held}"
    yield f"  answers waiting  {found.answers_waiting}"
    yield f"  mode             {found.mode}"
    yield f"  size on disk     {_size(found.file_bytes)}"
    yield f"  set aside        {len(found.set_aside) or 'nothing'}"
    for aside in found.set_aside:
        yield f"    {aside}"


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """End the program with one line and exit code 2 if `file` cannot be read."""
    if not file.is_file():
        fail(f"{file} is no file: expected a journal (WORKER_OFFLINE_DIR says where an agent keeps it)")
    try:
        yield
    except sqlite3.Error as error:
        fail(f"{file} cannot be read ({error}): expected the journal of an agent of this version")


def _time(at: int | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")


def _age(time: str, now: int) -> str:
    seconds = now / 1000 - datetime.fromisoformat(time).timestamp()
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "now"


def _waiting(one: Waiting) -> str:
    return f"{one.rows:,} event{'' if one.rows == 1 else 's'}, {_size(one.bytes)}"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
