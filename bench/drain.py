"""A journal of 100,000 results that drains into a hub, beside SQLite's own inserts of the same rows."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from bench.history import EVENTS_A_TASK, fill, tasks_of_a_site
from bench.house import House
from bench.rows import Row, ratio
from broker.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKER = "drain"
RESULTS = 100_000
EVENTS = RESULTS * EVENTS_A_TASK
BATCH_EVENTS = 500
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.02

TABLES = {"tasks": "id", "attempts": "task"}
"""What the hub keeps of these events: a task and an attempt for each result. The column with the task's id."""


def rows() -> Iterator[Row]:
    """Let an agent with a full journal meet a hub."""
    with House(workers=0, slots=1) as house:
        fill(house.folder / WORKER / "journal.db", tasks_of_a_site(WORKER, RESULTS, now_ms() - RESULTS))
        drained = events_per_second(house)
        bare = bare_events_per_second(house.folder)
    yield Row(
        f"a journal of {RESULTS:,} results ({EVENTS:,} events) drains into the hub's database",
        f"{drained:,.0f} events/s",
        f"SQLite alone inserts the same rows in the same batches, with fsync: {bare:,.0f} events/s",
        ratio(drained, bare),
    )


def events_per_second(house: House) -> float:
    """Return how many events of a full journal a second are committed by the hub, from its first batch to the last."""
    house.start_worker(WORKER, slots=1)
    with closing(sqlite3.connect(f"file:{house.folder / 'hub.db'}?mode=ro", uri=True)) as kept:
        first = _committed(kept, 1)
        began = time.perf_counter()
        _committed(kept, EVENTS)
        seconds = time.perf_counter() - began
        (count,) = kept.execute("SELECT count(*) FROM tasks WHERE state = 'succeeded'").fetchone()
    if count != RESULTS:
        raise RuntimeError(f"{RESULTS} results were told, and the hub has {count}")
    return (EVENTS - first) / seconds


def bare_events_per_second(folder: Path) -> float:
    """Return how fast SQLite alone writes what the hub has written for these events."""
    with closing(sqlite3.connect(folder / "hub.db")) as hub, closing(sqlite3.connect(folder / "bare.db")) as bare:
        bare.isolation_level = None
        bare.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        written = {}
        for table, task in TABLES.items():
            for (sql,) in hub.execute("SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql NOT NULL", (table,)):
                bare.execute(sql)
            as_told = f"CAST(substr({task}, {len(WORKER) + 2}) AS INTEGER)"
            written[table] = hub.execute(f"SELECT * FROM {table} ORDER BY {as_told}").fetchall()  # noqa: S608  our names
        began = time.perf_counter()
        _insert(bare, written)
        return EVENTS / (time.perf_counter() - began)


def _committed(kept: sqlite3.Connection, through: int) -> int:
    """Return how far the journal is committed, once it is so far."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    query = "SELECT coalesce(max(committed_through), 0) FROM streams WHERE worker = ?"
    while time.perf_counter() < deadline:
        (committed,) = kept.execute(query, (WORKER,)).fetchone()
        if committed >= through:
            return int(committed)
        time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"the journal has not drained in {PATIENCE_SECONDS:g} s")


def _insert(bare: sqlite3.Connection, written: dict[str, list[tuple[object, ...]]]) -> None:
    size = BATCH_EVENTS // EVENTS_A_TASK
    for start in range(0, RESULTS, size):
        bare.execute("BEGIN")
        for table, values in written.items():
            batch = values[start : start + size]
            marks = ",".join("?" * len(batch[0]))
            bare.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)  # noqa: S608  our names
        bare.execute("COMMIT")
