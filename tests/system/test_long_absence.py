"""A hub that was away for long: what waits in a journal does not weigh, and all of it arrives, in order, once."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import psutil
import pytest

from broker.clock import now_ms
from broker.messages import Injected, Outcome, TaskAccepted, TaskFinished, TaskSpec, TaskStarted, Via, encode
from edge_agent.store.database import connect
from tests.support.programs import House, Program, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from broker.messages import Event

TASKS = 34_000
EVENTS = 3 * TASKS
"""More than 100,000: what a busy site reports in an hour."""

GROWTH_BYTES = 24 * 1024 * 1024
"""What a worker may grow by while it drains: less than the journal holds."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_hundred_thousand_events_wait_without_weight_and_arrive_in_order(house: House) -> None:
    empty = await house.agent("empty", "site-a")
    fill(house.folder / "full" / "journal.db")
    full = await house.agent("full", "site-a", WORKER_LOG_LEVEL="info")
    at_rest = memory(full)
    assert at_rest - memory(empty) < GROWTH_BYTES

    hub = await house.hub(HUB_LOG_LEVEL="info")
    most = await most_memory_until_drained(full, house.folder / "full" / "journal.db")
    assert most - at_rest < GROWTH_BYTES

    with sqlite3.connect(f"file:{house.folder / 'hub.db'}?mode=ro", uri=True) as kept:
        tasks = kept.execute("SELECT id, state, attempt FROM tasks ORDER BY seq").fetchall()
        assert tasks == [(f"t{number}", "succeeded", 1) for number in range(TASKS)]
        assert kept.execute("SELECT count(*), count(DISTINCT task) FROM attempts").fetchone() == (TASKS, TASKS)
        assert kept.execute("SELECT count(*) FROM reports WHERE type = 'gap'").fetchone() == (0,)
    assert (await hub.task("t33999"))["result"] == {"n": 33_999}


def fill(journal: Path) -> None:
    """Write a journal as an agent leaves it that has run many tasks of its site, with no hub to tell."""
    database = connect(journal)
    database.execute("BEGIN")
    database.executemany("INSERT INTO journal (at, body) VALUES (?, ?)", ((e.at, encode(e)) for e in history()))
    database.execute("COMMIT")
    database.close()


def history() -> Iterator[Event]:
    """Yield the events of one task after the other."""
    began = now_ms() - TASKS
    for number in range(TASKS):
        task, at = f"t{number}", began + number
        spec = TaskSpec(kind="noop", params={"n": number})
        yield TaskAccepted(at=at, task=task, attempt=1, injected=Injected(spec=spec, via=Via.SITE))
        yield TaskStarted(at=at, task=task, attempt=1)
        yield TaskFinished(at=at, task=task, attempt=1, outcome=Outcome.SUCCEEDED, result={"n": number})


def memory(program: Program) -> int:
    """Return what a process holds in memory, in bytes."""
    resident: int = psutil.Process(program.pid).memory_info().rss
    return resident


async def most_memory_until_drained(agent: Program, journal: Path) -> int:
    """Return the most that an agent held in memory until its journal was empty."""
    most = 0
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as waiting:
        async with asyncio.timeout(120):
            while waiting.execute("SELECT EXISTS (SELECT 1 FROM journal)").fetchone()[0]:
                most = max(most, memory(agent))
                await asyncio.sleep(0.05)
    return most
