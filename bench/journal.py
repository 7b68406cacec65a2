"""What the journal costs: an event that is on the disk, beside a bare SQLite commit; an agent whose journal is full."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench.history import fill, result
from bench.rows import Row, ratio
from broker.local import PrivateBroker
from broker.messages import encode
from edge_agent.rules.eviction import class_of
from edge_agent.store.database import Database
from edge_agent.store.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.messages import TaskFinished

APPENDS = 1_000
CONCURRENT = 100
WAITING = 1_000_000
REST_SECONDS = 5.0
BEGAN_MS = 1_790_000_000_000


@dataclass(frozen=True, slots=True)
class AppendCost:
    """Milliseconds for an event that is on the disk.

    Attributes:
        alone_ms: One at a time, each awaited: the median.
        bare_ms: The same row, by SQLite alone, on the same disk, in turns with ours: the median.
        together_ms: By a hundred callers at once, for each event.

    """

    alone_ms: float
    bare_ms: float
    together_ms: float


@dataclass(frozen=True, slots=True)
class WaitingCost:
    """An agent's memory in MB, and the seconds from its start until tasks come, with so many events waiting."""

    memory_mb: float
    online_seconds: float


def rows() -> Iterator[Row]:
    """Measure appends, and agents with an empty and a full journal."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        cost = append_cost(folder)
        bare = f"a bare SQLite commit with fsync: {cost.bare_ms:.2f} ms"
        yield Row("durable append", f"{cost.alone_ms:.2f} ms", bare, ratio(cost.alone_ms, cost.bare_ms))
        yield Row(
            f"durable append, {CONCURRENT} at once, each",
            f"{cost.together_ms:.2f} ms",
            bare,
            ratio(cost.together_ms, cost.bare_ms),
        )
        empty, full = waiting_cost(folder, 0), waiting_cost(folder, WAITING)
    yield Row(
        f"agent's memory (RSS), {WAITING:,} results waiting",
        f"{full.memory_mb:.1f} MB",
        f"with none waiting: {empty.memory_mb:.1f} MB",
        ratio(full.memory_mb, empty.memory_mb),
    )
    yield Row(
        f"agent, start to online, {WAITING:,} results waiting",
        f"{full.online_seconds:.2f} s",
        f"with none waiting: {empty.online_seconds:.2f} s",
        ratio(full.online_seconds, empty.online_seconds),
    )


# -- appends -----------------------------------------------------------------------------------------------------------


def append_cost(folder: Path) -> AppendCost:
    """Measure appends in `folder`."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as bare:
        bare.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, body BLOB, class INTEGER)"
        )
        return asyncio.run(_appends(folder / "appends" / "journal.db", bare))


async def _appends(file: Path, bare: sqlite3.Connection) -> AppendCost:
    database = Database(file)
    database.open()
    try:
        journal = Journal(database)
        await journal.load()
        ours, theirs = [], []
        for event in map(_result, range(APPENDS)):
            began = time.perf_counter()
            bare.execute(
                "INSERT INTO journal (at, body, class) VALUES (?, ?, ?)",
                (event.at, encode(event), int(class_of(event))),
            )
            turned = time.perf_counter()
            await _append(database, journal, event)
            theirs.append(turned - began)
            ours.append(time.perf_counter() - turned)
        began = time.perf_counter()
        await asyncio.gather(*(_append_some(database, journal, first) for first in range(CONCURRENT)))
        together = (time.perf_counter() - began) / APPENDS
    finally:
        await database.close()
    return AppendCost(statistics.median(ours) * 1000, statistics.median(theirs) * 1000, together * 1000)


async def _append_some(database: Database, journal: Journal, first: int) -> None:
    for number in range(first, APPENDS, CONCURRENT):
        await _append(database, journal, _result(number))


async def _append(database: Database, journal: Journal, event: TaskFinished) -> None:
    await database.commit(partial(journal.append, events=[event]))


def _result(number: int) -> TaskFinished:
    return result(f"bench-task-{number:08d}", BEGAN_MS + number)


# -- what waits --------------------------------------------------------------------------------------------------------


def waiting_cost(folder: Path, count: int) -> WaitingCost:
    """Start an agent on a journal in which `count` results wait, at a broker where no hub is."""
    offline = folder / f"waiting-{count}"
    fill(offline / "journal.db", map(_result, range(count)))
    with PrivateBroker() as broker:
        settings = {
            "WORKER_ID": "bench",
            "WORKER_SITE": "bench",
            "WORKER_BROKER_URL": broker.url,
            "WORKER_OFFLINE_DIR": str(offline),
            "WORKER_BUFFER_MAX_MB": "1024",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        log = folder / f"waiting-{count}.log"
        began = time.perf_counter()
        with (
            log.open("w") as output,
            subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run"], env={**inherited, **settings}, stderr=output
            ) as agent,
        ):
            try:
                online_seconds = _wait_online(agent, log) - began
                time.sleep(REST_SECONDS)  # let it come to rest: what is measured is what stays
                memory = psutil.Process(agent.pid).memory_info().rss / 1e6
            finally:
                agent.kill()
    return WaitingCost(memory, online_seconds)


def _wait_online(agent: subprocess.Popen[bytes], log: Path) -> float:
    """Return when an agent has logged that it is online."""
    while agent.poll() is None:
        if " online " in log.read_text():
            return time.perf_counter()
        time.sleep(0.01)
    raise RuntimeError(f"the agent has ended:\n{log.read_text()[-2000:]}")
