"""No-op tasks through everything: posted by HTTP, run by a real agent, their results in the hub's database."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING

import httpx

from bench.house import House
from bench.idle import wait_online
from bench.limits import GROUP, commits_per_second
from bench.rows import Row, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = 10_000
POSTED_AT_ONCE = 1_000
LATENCY_TASKS = 300


def rows() -> Iterator[Row]:
    """Measure throughput and latency of a house with one worker."""
    with House(workers=1, slots=4) as house, httpx.Client(base_url=house.hub_url, timeout=60) as http:
        wait_online(http, 1)
        single, grouped = commits_per_second(house.folder)
        done = tasks_per_second(http)
        median, tail, bare = latency_ms(http)
    yield Row(
        f"no-op tasks, posted by {POSTED_AT_ONCE}, to stored results",
        f"{done:,.0f}/s",
        f"bare SQLite commits with fsync: {single:,.0f}/s of 1 row, {grouped:,.0f} rows/s of {GROUP}",
        ratio(done, single),
    )
    beside = f"GET /health: {bare:.1f} ms"
    yield Row("submit to result at idle, median", f"{median:.1f} ms", beside, ratio(median, bare))
    yield Row("submit to result at idle, 99th percentile", f"{tail:.1f} ms", beside, ratio(tail, bare))


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


def _unended(http: httpx.Client) -> bool:
    states = ("pending", "assigned", "running")
    return any(http.get("/api/tasks", params={"state": state, "limit": 1}).json()["items"] for state in states)
