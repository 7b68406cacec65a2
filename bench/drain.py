"""A journal of 100,000 results that drains into a hub, beside SQLite's own inserts of the same rows."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from bench.rows import Row
from broker.clock import now_ms
from broker.messages import Injected, Outcome, TaskAccepted, TaskFinished, TaskSpec, TaskStarted, Via, encode
from edge_agent.sqlite import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.house import House
    from broker.messages import Event

RESULTS = 100_000
BATCH_EVENTS = 500
EVENTS_A_RESULT = 3
PATIENCE_SECONDS = 300.0


def rows(house: House) -> Iterator[Row]:
    """Let an agent with a full journal meet the hub of a house that is up."""
    drained = events_per_second(house)
    bare = bare_events_per_second(house.folder)
    yield Row(
        f"a journal of {RESULTS:,} results drains",
        f"{drained:,.0f} events/s",
        f"bare SQLite, the same rows and batches, with fsync: {bare:,.0f} events/s",
    )


def events_per_second(house: House) -> float:
    """Return how many events of a prefilled journal a second reach the hub's database, from first to last."""
    fill(house.folder / "drain" / "journal.db")
    house.start_worker("drain", slots=1)
    with closing(sqlite3.connect(f"file:{house.folder / 'hub.db'}?mode=ro", uri=True)) as kept:
        begun = _wait_for(kept, 1)
        began = time.perf_counter()
        _wait_for(kept, RESULTS * EVENTS_A_RESULT)
        return (RESULTS * EVENTS_A_RESULT - begun) / (time.perf_counter() - began)


def bare_events_per_second(folder: Path) -> float:
    """Return how fast SQLite alone writes what the hub does for these events: a task and an attempt for each result."""
    with closing(sqlite3.connect(folder / "hub.db")) as hub, closing(sqlite3.connect(folder / "bare.db")) as bare:
        bare.isolation_level = None
        bare.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        written = {}
        for table in ("tasks", "attempts"):
            for (sql,) in hub.execute("SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql NOT NULL", (table,)):
                bare.execute(sql)
            which = "id" if table == "tasks" else "task"
            written[table] = hub.execute(f"SELECT * FROM {table} WHERE {which} LIKE 'drain-%'").fetchall()  # noqa: S608  our names
        began = time.perf_counter()
        _insert(bare, written)
        return RESULTS * EVENTS_A_RESULT / (time.perf_counter() - began)


def fill(journal: Path) -> None:
    """Write a journal as an agent leaves it that has run many tasks of its site, with no hub to tell."""
    journal.parent.mkdir(parents=True)
    with closing(connect(journal)) as database:
        database.execute("BEGIN")
        database.executemany("INSERT INTO journal (at, body) VALUES (?, ?)", ((e.at, encode(e)) for e in _history()))
        database.execute("COMMIT")


def _history() -> Iterator[Event]:
    began = now_ms() - RESULTS
    injected = Injected(spec=TaskSpec(kind="noop", params={"n": 1}), via=Via.SITE)
    for number in range(RESULTS):
        task, at = f"drain-{number}", began + number
        yield TaskAccepted(at=at, task=task, attempt=1, injected=injected)
        yield TaskStarted(at=at, task=task, attempt=1)
        yield TaskFinished(at=at, task=task, attempt=1, outcome=Outcome.SUCCEEDED, result={"n": number})


def _wait_for(kept: sqlite3.Connection, through: int) -> int:
    """Return how far the journal is committed, once it is so far."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    query = "SELECT coalesce(max(committed_through), 0) FROM streams WHERE worker = 'drain'"
    while time.perf_counter() < deadline:
        (committed,) = kept.execute(query).fetchone()
        if committed >= through:
            return int(committed)
        time.sleep(0.005)
    msg = f"the journal has not drained in {PATIENCE_SECONDS:g} s"
    raise RuntimeError(msg)


def _insert(bare: sqlite3.Connection, written: dict[str, list[tuple[object, ...]]]) -> None:
    size = BATCH_EVENTS // EVENTS_A_RESULT
    for start in range(0, RESULTS, size):
        bare.execute("BEGIN")
        for table, values in written.items():
            batch = values[start : start + size]
            marks = ",".join("?" * len(batch[0]))
            bare.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)  # noqa: S608  our names
        bare.execute("COMMIT")
