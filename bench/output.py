"""What a command writes, through the agent into its log: beside `cat` into a file, in the same run and in turns."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.rows import Row, ratio
from broker.clock import now_ms
from edge_agent.context import TaskContext
from edge_agent.executors.command import Command
from edge_agent.logs import Logs
from edge_agent.rules.attempts import Ref
from edge_agent.rules.policy import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTES = 256
ROUNDS = 5
MB = 1_000_000


def rows() -> Iterator[Row]:
    """Measure, each as often as the other."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        source = folder / "source"
        source.write_bytes(os.urandom(MB) * MEGABYTES)
        ours, theirs, lags = [], [], []
        for number in range(ROUNDS):
            theirs.append(_cat(source, folder / "copy"))
            seconds, lag = asyncio.run(_through_the_agent(source, folder / f"logs-{number}"))
            ours.append(seconds)
            lags.append(lag)
    our_rate, their_rate = MEGABYTES / statistics.median(ours), MEGABYTES / statistics.median(theirs)
    yield Row(
        f"output of a command into its log, {MEGABYTES} MB",
        f"{our_rate:.0f} MB/s",
        f"cat through a pipe into a file: {their_rate:.0f} MB/s",
        ratio(our_rate, their_rate),
    )
    yield Row("longest that the event loop was kept meanwhile", f"{1000 * max(lags):.1f} ms")


def _cat(source: Path, copy: Path) -> float:
    began = time.perf_counter()
    with copy.open("wb") as out, subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE) as first:
        subprocess.run(["cat"], stdin=first.stdout, stdout=out, check=True)
    seconds = time.perf_counter() - began
    copy.unlink()
    return seconds


async def _through_the_agent(source: Path, folder: Path) -> tuple[float, float]:
    """Return how many seconds it took, and the longest that the event loop was late."""
    logs = Logs(folder, max_bytes=2 * MEGABYTES * MB, max_total_bytes=4 * MEGABYTES * MB)
    log = logs.begin(Ref("bench", 1))
    context = TaskContext("bench", 1, report=lambda _: None, clock=now_ms, log=log)
    watching = asyncio.create_task(_longest_lag())
    await asyncio.sleep(0)
    began = time.perf_counter()
    await Command(parse(["cat *"])).run({"argv": ["cat", str(source)]}, context)
    part = await logs.read(log.ref, None, tail=0, limit=1)
    seconds = time.perf_counter() - began
    watching.cancel()
    lag = await asyncio.gather(watching, return_exceptions=True)
    await logs.close()
    if part.size != MEGABYTES * MB:
        raise RuntimeError(f"{part.size} bytes are in the log: expected {MEGABYTES * MB}")
    return seconds, lag[0] if isinstance(lag[0], float) else 0.0


async def _longest_lag() -> float:
    pause, longest = 0.005, 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(pause)
            longest = max(longest, time.perf_counter() - began - pause)
    except asyncio.CancelledError:
        return longest
