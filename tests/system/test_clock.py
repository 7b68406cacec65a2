"""Workers whose clocks are wrong, and are set while they run: what the API shows stays in order, with its error."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.clocks import WrongClock
from tests.support.programs import House, Hub, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOUR_MS = 3_600_000
LARGEST_ERROR_MS = 2_000
"""Half the time of a hello and its answer on a busy machine, and what a clock drifts during a test."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


@pytest.mark.parametrize("offset", ["+3600", "-3600"])
async def test_times_of_a_worker_that_is_an_hour_off_are_right_within_the_error_that_is_shown(
    house: House, faketime: str, offset: str
) -> None:
    clock = WrongClock(house.folder / "clock", faketime, offset)
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **clock.environment)
    await agent.logged("synced")

    before = time.time() * 1000
    task = await run(hub, "t1")
    after = time.time() * 1000

    told = await clock_of(hub, "w1")
    assert told["offset_ms"] == pytest.approx(-1000 * int(offset), abs=LARGEST_ERROR_MS)
    assert 0 < told["error_ms"] < LARGEST_ERROR_MS
    attempt = task["attempts"][0]
    for name in ("accepted_at", "started_at", "finished_at"):
        assert before - attempt["error_ms"] <= milliseconds(attempt[name]) <= after + attempt["error_ms"]
    assert [one["event"] for one in task["timeline"]] == ["created", "assigned", "accepted", "started", "succeeded"]


async def test_a_clock_that_is_set_while_the_worker_runs_does_not_disturb_the_order(
    house: House, faketime: str
) -> None:
    clock = WrongClock(house.folder / "clock", faketime, "+0")
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **clock.environment)
    await agent.logged("synced")

    tasks = []
    for number, offset in enumerate(["+0", "+3600", "-3600", "+0"]):
        clock.set(offset)
        tasks.append(await run(hub, f"t{number}"))

    finished = [milliseconds(task["finished_at"]) for task in tasks]
    assert finished == sorted(finished)
    assert finished[-1] - finished[0] < 60_000
    assert abs((await clock_of(hub, "w1"))["offset_ms"]) < LARGEST_ERROR_MS


async def test_what_a_boot_told_that_never_met_the_hub_says_that_its_error_is_not_known(
    house: House, faketime: str
) -> None:
    clock = WrongClock(house.folder / "clock", faketime, "+3600")
    early = await house.agent("w1", "site-a", **clock.environment)
    await house.inject("site-a", '{"id":"early","kind":"noop"}')
    await early.logged(r"task_ended.*early")
    await early.kill()

    clock.set("-3600")
    late = await house.agent("w1", "site-a", **clock.environment)
    await house.inject("site-a", '{"id":"late","kind":"noop"}')
    await late.logged(r"task_ended.*late")
    now = time.time() * 1000
    hub = await house.hub()
    await hub.program.logged(r"committed.*worker=w1.*through=8\b")  # two starts, two tasks of three events each

    unknown = (await hub.task("early"))["attempts"][0]  # type: ignore[index]
    known = (await hub.task("late"))["attempts"][0]  # type: ignore[index]
    assert unknown["error_ms"] is None
    assert known["error_ms"] < LARGEST_ERROR_MS
    assert milliseconds(known["finished_at"]) == pytest.approx(now, abs=known["error_ms"] + 30_000)


async def run(hub: Hub, name: str) -> dict[str, Any]:
    """Run one task, and return it as it has ended."""
    await hub.post({"id": name, "kind": "noop", "site": "site-a"})
    return await hub.task(name)


async def clock_of(hub: Hub, worker: str) -> dict[str, Any]:
    """Return what the hub knows of a worker's clock."""
    answer = await hub.http.get(f"/api/workers/{worker}")
    clock: dict[str, Any] = answer.json()["clock"]
    return clock


def milliseconds(text: str) -> float:
    """Return a time of the API in Unix milliseconds."""
    return datetime.fromisoformat(text).timestamp() * 1000
