"""An agent that has nothing to do: how soon it is online, and what it costs."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import psutil

from bench.house import House
from bench.rows import Row, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE_SECONDS = 10.0


def rows() -> Iterator[Row]:
    """Start an agent beside another in a house that is up, and measure it."""
    with House(workers=1, slots=4) as house, httpx.Client(base_url=house.hub_url, timeout=60) as http:
        wait_online(http, 1)
        yield Row("agent, start to online", f"{online_after_seconds(house, http):.2f} s")
        memory_mb, cpu_percent, written = idle_agent(house)
    bare_mb = bare_python_mb()
    beside = f"a bare Python with asyncio: {bare_mb:.1f} MB"
    yield Row("idle agent, memory (RSS)", f"{memory_mb:.1f} MB", beside, ratio(memory_mb, bare_mb))
    yield Row(f"idle agent, CPU over {IDLE_SECONDS:g} s", f"{cpu_percent:.2f} % of a core")
    yield Row(f"idle agent, written to disk in {IDLE_SECONDS:g} s", f"{written} bytes")


def online_after_seconds(house: House, http: httpx.Client) -> float:
    """Start one more agent, and return the seconds until the hub shows it online."""
    began = time.perf_counter()
    house.start_worker("bench-idle", slots=4)
    wait_online(http, 2)
    return time.perf_counter() - began


def wait_online(http: httpx.Client, count: int) -> None:
    """Wait until the hub shows so many workers online."""
    while len(http.get("/api/workers", params={"state": "online"}).json()["items"]) < count:
        time.sleep(0.01)


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
