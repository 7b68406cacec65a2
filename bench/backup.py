"""What a backup costs: its time beside that of a plain copy of the file, and how long it holds up the hub's commits."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.rows import Row, ratio
from broker.messages import TaskSpec
from hub.rules.task import new_task
from hub.store.engine import open_engine
from hub.store.ledger import Ledger
from hub.store.tasks import submit
from tests.support.programs import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

DATABASE_BYTES = 100_000_000
TASKS_A_COMMIT = 2_000
PAUSE_SECONDS = 0.01
ALONE_SECONDS = 5.0


class Held(NamedTuple):
    """How long commits took while something else was done, in milliseconds, and how long that took, in seconds."""

    seconds: float
    commits_ms: list[float]

    def __str__(self) -> str:
        in_order = sorted(self.commits_ms)
        p99 = in_order[int(len(in_order) * 0.99)]
        return f"median {statistics.median(in_order):.1f}, 99 % {p99:.1f}, longest {in_order[-1]:.1f} ms"


def rows() -> Iterator[Row]:
    """Measure a backup and a restore of a database of 100 MB."""
    with tempfile.TemporaryDirectory(prefix="bench-backup-", dir="/var/tmp") as name:
        folder = Path(name)
        database = folder / "hub.db"
        engine = open_engine(f"sqlite:///{database}")
        _fill(engine, database)
        size = f"{database.stat().st_size / 1e6:.0f} MB"
        alone, copying, backing_up = asyncio.run(_measure(engine, database, folder))
        engine.dispose()
        began = time.perf_counter()
        _edge_hub("restore", folder / "backup.db", folder / "new" / "hub.db")
        restoring = time.perf_counter() - began
    yield Row(
        f"back up a hub's database of {size}, checked, while it works",
        f"{backing_up.seconds:.2f} s",
        f"plain copy of the file with fsync: {copying.seconds:.2f} s",
        ratio(backing_up.seconds, copying.seconds),
    )
    longest, longest_alone = max(backing_up.commits_ms), max(alone.commits_ms)
    yield Row(
        f"the hub's commits meanwhile ({len(backing_up.commits_ms)})",
        str(backing_up),
        f"nothing beside: {alone}\nplain copy: {copying}",
        ratio(longest, longest_alone),
    )
    yield Row("restore it, checked", f"{restoring:.2f} s")


def _fill(engine: Engine, database: Path) -> None:
    number = 0
    while database.stat().st_size < DATABASE_BYTES:
        spec = TaskSpec(kind="noop", params={"said": "x" * 400})
        made = [
            new_task(spec, f"task-{n}", via="http", site="site-a", pinned=None, now=n)
            for n in range(number, number + TASKS_A_COMMIT)
        ]
        number += TASKS_A_COMMIT
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            submit(connection, made)


async def _measure(engine: Engine, database: Path, folder: Path) -> tuple[Held, Held, Held]:
    ledger = Ledger(engine)
    ledger.open()
    try:
        alone = await _held(ledger, lambda: time.sleep(ALONE_SECONDS))
        copying = await _held(ledger, lambda: _copy(database, folder / "copy.db"))
        backing_up = await _held(ledger, lambda: _edge_hub("backup", folder / "backup.db", database))
    finally:
        ledger.close()
    return alone, copying, backing_up


async def _held(ledger: Ledger, work: Callable[[], None]) -> Held:
    """Commit a task each 10 ms while `work` is done in a thread, and note how long each commit takes."""
    began = time.perf_counter()
    working = asyncio.create_task(asyncio.to_thread(work))
    commits: list[float] = []
    while not working.done():
        asked = time.perf_counter()
        await ledger.commit(_one_more)
        commits.append((time.perf_counter() - asked) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    await working
    return Held(time.perf_counter() - began, commits)


def _one_more(connection: Connection) -> None:
    spec = TaskSpec(kind="noop", params={"n": 1})
    name = f"measured-{time.perf_counter_ns()}"
    submit(connection, [new_task(spec, name, via="http", site="site-a", pinned=None, now=1)])


def _copy(database: Path, to: Path) -> None:
    with closing(database.open("rb")) as source, closing(to.open("wb")) as copy:
        while block := source.read(1024 * 1024):
            copy.write(block)
        copy.flush()
        os.fsync(copy.fileno())


def _edge_hub(command: str, file: Path, database: Path) -> None:
    environment = clean_environment({"HUB_DATABASE_URL": f"sqlite:///{database}"})
    subprocess.run([sys.executable, "-m", "hub", command, str(file)], env=environment, check=True, capture_output=True)
