"""The hub is gone for the whole test: injection and schedules go on, and when it is back it knows everything.

Each task leaves a line in a file outside the system; what the hub knows in the end is compared with that.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from broker.topics import Topics, WorkerTasks
from tests.support.programs import PATIENCE_SECONDS, House, Hub, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping
    from pathlib import Path

SITE = "site-a"
WORKERS = ("w1", "w2")
INJECTED = 20
Stream = tuple[str, str]
"""A job, and a worker that fires it."""

STREAMS = tuple((job, worker) for job in ("file:mine", "hub:theirs") for worker in WORKERS)
FIRINGS = 4
"""How many firings of each job there are at each worker, at least, while the hub is gone."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


def traced(trace: Path, task: str) -> str:
    return json.dumps({"id": task, "kind": "trace", "params": {"path": str(trace)}, "retry": {"max_attempts": 3}})


def job(trace: Path, name: str) -> dict[str, object]:
    task = {key: value for key, value in json.loads(traced(trace, "")).items() if key != "id"}
    return {"name": name, "every_seconds": 1, "task": task}


async def test_a_site_goes_on_without_its_hub_which_knows_everything_when_it_is_back(house: House) -> None:
    trace = house.folder / "trace"
    (house.folder / "schedule.toml").write_text(
        f"[[job]]\nname = 'mine'\nevery_seconds = 1\ntask = {{ kind = 'trace', params = {{ path = '{trace}' }}, "
        "retry = { max_attempts = 3 } }\n"
    )
    settings = {"WORKER_SCHEDULE": "schedule.toml", "WORKER_PLUGINS": "tests.support.site_handlers"}
    agents = [await house.agent(name, SITE, **settings) for name in WORKERS]
    hub = await house.hub()
    for agent in agents:
        await agent.logged("synced")
    answer = await hub.http.put("/api/schedules/theirs", json=job(trace, "theirs"))
    assert answer.status_code == 201
    for agent in agents:
        await agent.logged("schedules_pushed")
    await hub.program.kill()
    before = firings(await asyncio.to_thread(lines_of, trace))

    tasks = [f"site-{number}" for number in range(INJECTED)]
    await house.inject_lines(SITE, [traced(trace, task) for task in tasks])
    for worker in WORKERS:
        topic = Topics().build(WorkerTasks(SITE, worker))
        for number in range(3):
            tasks.append(f"{worker}-{number}")
            await house.publish(topic, traced(trace, tasks[-1]))
    await agents[0].kill()  # a reboot in the middle
    agents[0] = await house.agent("w1", SITE, **settings)
    lines = await seen(trace, tasks, {stream: before[stream] + FIRINGS for stream in STREAMS})

    hub = await house.hub()
    await all_succeeded(hub, {line.split()[0] for line in lines})
    await seen(trace, tasks, {stream: count + 1 for stream, count in firings(lines).items()})
    for agent in agents:
        await agent.stop()
    runs = Counter(line.split()[0] for line in await asyncio.to_thread(lines_of, trace))
    await all_succeeded(hub, runs)
    await hub.program.stop()

    known = tasks_of(house.folder / "hub.db")
    assert runs.keys() >= set(tasks)
    assert {known[task][2] for task in known.keys() - runs.keys()} <= {"pending"}  # given back by a stop
    for task in runs:
        via, worker, state = known[task]
        assert state == "succeeded"
        assert via == ("site" if task.startswith("site-") else "worker" if task in tasks else "schedule")
        assert worker in WORKERS
    # Only what ran when its worker was killed may have run again.
    assert sum(count - 1 for count in runs.values()) <= 4


async def all_succeeded(hub: Hub, tasks: Iterable[str]) -> None:
    """Return when the hub knows that each of `tasks` has ended well."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        for task in tasks:
            while (await hub.http.get(f"/api/tasks/{task}")).status_code == 404:  # noqa: ASYNC110  its worker has not told yet
                await asyncio.sleep(0.05)
            assert (await hub.task(task))["state"] == "succeeded", task


async def seen(trace: Path, tasks: Collection[str], wanted: Mapping[Stream, int]) -> list[str]:
    """Return the lines of the trace once each of `tasks` is among them, and so many firings of each job and worker."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        while True:
            lines = await asyncio.to_thread(lines_of, trace)
            found = firings(lines)
            if {line.split()[0] for line in lines} >= set(tasks) and all(found[one] >= wanted[one] for one in wanted):
                return lines
            await asyncio.sleep(0.05)


def firings(lines: Iterable[str]) -> Counter[Stream]:
    """Count the firings of each job at each worker."""
    ids = {line.split()[0] for line in lines}
    return Counter((f"{source}:{name}", rest.split(":")[-1]) for source, name, rest in map(_parts, ids) if rest)


def _parts(task: str) -> tuple[str, str, str]:
    source, _, rest = task.partition(":")
    name, _, rest = rest.partition(":")
    return source, name, rest


def lines_of(trace: Path) -> list[str]:
    return trace.read_text().splitlines() if trace.exists() else []


def tasks_of(database: Path) -> dict[str, tuple[str, str, str]]:
    """Return what the hub's database says of each task: how it came, who had it, and what it came to."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as kept:
        return {row[0]: row[1:] for row in kept.execute("SELECT id, via, worker, state FROM tasks")}
