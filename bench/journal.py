"""What the journal costs: an append that is on the disk, beside the bare SQLite commit; and memory, when much waits."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psutil

from broker.messages import Outcome, TaskFinished, encode
from edge_agent.database import Database
from edge_agent.journal import Journal
from edge_agent.rules.eviction import class_of
from edge_agent.sqlite import connect

if TYPE_CHECKING:
    from pathlib import Path

APPENDS = 1_000
CONCURRENT = 100
WAITING_ROWS = 1_000_000
REST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class AppendCost:
    """Milliseconds for an event that is on the disk.

    Attributes:
        alone: One at a time, each awaited.
        together: By a hundred callers at once, for each event.
        bare: The same row, one at a time, by SQLite alone, on the same disk in the same run.

    """

    alone_ms: float
    together_ms: float
    bare_ms: float


@dataclass(frozen=True, slots=True)
class WaitingCost:
    """An agent's memory in MB, and seconds from its start until it has read its journal, with so many rows waiting."""

    rows: int
    memory_mb: float
    started_seconds: float


def append_cost(folder: Path) -> AppendCost:
    """Measure appends in `folder`."""
    bare = _bare_commits(folder / "bare.db")
    alone, together = asyncio.run(_appends(folder / "appends" / "journal.db"))
    return AppendCost(alone_ms=alone, together_ms=together, bare_ms=bare)


def waiting_cost(folder: Path, rows: int) -> WaitingCost:
    """Start an agent that reaches no broker, on a journal in which `rows` events wait."""
    offline = folder / f"waiting-{rows}"
    _prefill(offline / "journal.db", rows)
    settings = {
        "WORKER_ID": "bench",
        "WORKER_BROKER_URL": "mqtt://127.0.0.1:1",
        "WORKER_OFFLINE_DIR": str(offline),
        "WORKER_BUFFER_MAX_MB": "1024",
        "WORKER_LOG_LEVEL": "info",
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("WORKER_")}
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "run"], env={**inherited, **settings}, stderr=subprocess.PIPE, text=True
    ) as agent:
        try:
            # It tries to connect only once the journal is read.
            if agent.stderr is None or not any("broker_link_down" in line for line in agent.stderr):
                raise RuntimeError("the agent ended before it tried its broker")
            started = time.perf_counter() - began
            time.sleep(REST_SECONDS)
            memory = psutil.Process(agent.pid).memory_info().rss / 1e6
        finally:
            agent.kill()
    return WaitingCost(rows, memory, started)


def _result(number: int) -> TaskFinished:
    return TaskFinished(
        at=1_790_000_000_000 + number,
        task=f"bench-task-{number:08d}",
        attempt=1,
        outcome=Outcome.SUCCEEDED,
        result={"exit_code": 0, "output": "x" * 60},
    )


def _bare_commits(file: Path) -> float:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, body BLOB, class INTEGER)"
    )
    rows = [(event.at, encode(event), int(class_of(event))) for event in map(_result, range(APPENDS))]
    began = time.perf_counter()
    for row in rows:
        connection.execute("INSERT INTO journal (at, body, class) VALUES (?, ?, ?)", row)
    cost = _ms_each(began)
    connection.close()
    return cost


async def _appends(file: Path) -> tuple[float, float]:
    database = Database(file)
    database.open()
    journal = Journal(database)
    await journal.load()
    try:
        began = time.perf_counter()
        for number in range(APPENDS):
            await _append(database, journal, number)
        alone = _ms_each(began)
        began = time.perf_counter()
        await asyncio.gather(*(_append_some(database, journal, first) for first in range(CONCURRENT)))
        return alone, _ms_each(began)
    finally:
        await database.close()


async def _append_some(database: Database, journal: Journal, first: int) -> None:
    for number in range(first, APPENDS, CONCURRENT):
        await _append(database, journal, number)


async def _append(database: Database, journal: Journal, number: int) -> None:
    await database.commit(partial(journal.append, events=[_result(number)]))


def _ms_each(began: float) -> float:
    return (time.perf_counter() - began) * 1000 / APPENDS


def _prefill(file: Path, rows: int) -> None:
    connection = connect(file)
    kind = int(class_of(_result(0)))
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO journal (at, body, class) VALUES (?, ?, ?)",
        ((1_790_000_000_000 + number, encode(_result(number)), kind) for number in range(rows)),
    )
    connection.execute("COMMIT")
    connection.close()
