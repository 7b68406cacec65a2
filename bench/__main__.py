"""`make bench`: tasks per second, latency, an idle agent, and what the disk itself can do, in one run."""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.house import House

if TYPE_CHECKING:
    from pathlib import Path

TASKS = 10_000
POSTED_AT_ONCE = 1_000
LATENCY_TASKS = 300
IDLE_SECONDS = 10.0
LIMIT_ROWS = 2_000
GROUP_ROWS = 100


def main() -> None:
    """Measure, and print one table."""
    table = Table(title="Holdfast, everything on this machine, every step committed with fsync")
    for column in ("what", "figure", "beside it, in the same run"):
        table.add_column(column)
    with House(workers=1, slots=4) as house, httpx.Client(base_url=house.hub_url, timeout=60) as http:
        _wait_online(http, 1)
        single, grouped = commits_per_second(house.folder)
        rate = tasks_per_second(http)
        table.add_row(
            f"no-op tasks, posted by {POSTED_AT_ONCE}, to stored results",
            f"{rate:,.0f}/s",
            f"bare SQLite commits with fsync here: {single:,.0f}/s of 1 row, {grouped:,.0f} rows/s of {GROUP_ROWS}",
        )
        median, tail, bare = latency_ms(http)
        table.add_row("submit to result at idle, median", f"{median:.1f} ms", f"GET /health here: {bare:.1f} ms")
        table.add_row("submit to result at idle, 99th percentile", f"{tail:.1f} ms", "")
        started = online_after_seconds(house, http)
        memory_mb, cpu_percent, written = idle_agent(house)
        bare_mb = bare_python_mb()
        table.add_row("agent, start to online", f"{started:.2f} s", "")
        table.add_row("idle agent, memory (RSS)", f"{memory_mb:.1f} MB", f"a bare Python: {bare_mb:.1f} MB")
        table.add_row(f"idle agent, CPU over {IDLE_SECONDS:g} s", f"{cpu_percent:.2f} % of a core", "")
        table.add_row(f"idle agent, written to disk in {IDLE_SECONDS:g} s", f"{written} bytes", "")
    Console(width=150).print(table)


def tasks_per_second(http: httpx.Client) -> float:
    """Post `TASKS` no-op tasks and wait until the hub's database holds every result."""
    bodies = [
        json.dumps([{"kind": "noop", "id": f"b{start + number}"} for number in range(POSTED_AT_ONCE)])
        for start in range(0, TASKS, POSTED_AT_ONCE)
    ]
    began = time.perf_counter()
    for body in bodies:
        http.post("/api/tasks/batch", content=body).raise_for_status()
    while _unended(http):
        time.sleep(0.01)
    return TASKS / (time.perf_counter() - began)


def latency_ms(http: httpx.Client) -> tuple[float, float, float]:
    """Return median and 99th percentile of post-and-wait for one task at a time, and the median of a bare request."""
    tasks, bare = [], []
    for number in range(LATENCY_TASKS):
        began = time.perf_counter()
        http.post("/api/tasks", content=json.dumps({"kind": "noop", "id": f"l{number}"})).raise_for_status()
        http.get(f"/api/tasks/l{number}/wait").raise_for_status()
        tasks.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        http.get("/health").raise_for_status()
        bare.append((time.perf_counter() - began) * 1000)
    return statistics.median(tasks), statistics.quantiles(tasks, n=100)[98], statistics.median(bare)


def online_after_seconds(house: House, http: httpx.Client) -> float:
    """Start one more agent, and return the seconds until the hub shows it online."""
    began = time.perf_counter()
    house.start_worker("bench-idle", slots=4)
    _wait_online(http, 2)
    return time.perf_counter() - began


def idle_agent(house: House) -> tuple[float, float, int]:
    """Return memory in MB, CPU in percent of a core, and bytes written, of an agent that has nothing to do."""
    process = psutil.Process(house.programs["bench-idle"].pid)
    time.sleep(2)  # let it come to rest: what is measured is what stays
    process.cpu_percent()
    written = process.io_counters().write_bytes
    time.sleep(IDLE_SECONDS)
    return process.memory_info().rss / 1e6, process.cpu_percent(), process.io_counters().write_bytes - written


def bare_python_mb() -> float:
    """Return the memory in MB of a Python that has loaded nothing but asyncio."""
    script = "import asyncio, sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        if bare.stdout:
            bare.stdout.readline()
        return psutil.Process(bare.pid).memory_info().rss / 1e6


def commits_per_second(folder: Path) -> tuple[float, float]:
    """Return what SQLite alone does on this disk: one-row commits a second, and rows a second in groups."""
    connection = sqlite3.connect(folder / "limit.db", isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    )
    began = time.perf_counter()
    for _ in range(LIMIT_ROWS):
        connection.execute("INSERT INTO t (v) VALUES (?)", ("x" * 200,))
    single = LIMIT_ROWS / (time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(LIMIT_ROWS // 20):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t (v) VALUES (?)", [("x" * 200,)] * GROUP_ROWS)
        connection.execute("COMMIT")
    grouped = LIMIT_ROWS // 20 * GROUP_ROWS / (time.perf_counter() - began)
    connection.close()
    return single, grouped


def _unended(http: httpx.Client) -> bool:
    states = ("pending", "assigned", "running")
    return any(http.get("/api/tasks", params={"state": state, "limit": 1}).json()["items"] for state in states)


def _wait_online(http: httpx.Client, count: int) -> None:
    while len(http.get("/api/workers", params={"state": "online"}).json()["items"]) < count:
        time.sleep(0.01)


main()
