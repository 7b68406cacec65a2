"""Schedules of agents that are processes: killed, started again, and with clocks that are wrong, set, or of a zone."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.clocks import WrongClock
from tests.support.programs import PATIENCE_SECONDS, House, Hub, clean_environment, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.programs import Program

FIRED = r"job_fired.*task=(file:\S+)"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


def schedule(house: House, *lines: str, kind: str = "noop", params: str = "{}") -> dict[str, str]:
    """Write a file with one job, and return the settings of an agent that has it."""
    task = f"task = {{ kind = '{kind}', params = {params}, idempotent = false }}"
    (house.folder / "schedule.toml").write_text("\n".join(["[[job]]", 'name = "j"', *lines, task]))
    return {"WORKER_SCHEDULE": "schedule.toml", "WORKER_PLUGINS": "tests.support.site_handlers"}


def read(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def lines_of(file: Path, count: int) -> list[str]:
    """Return the lines of a trace once there are so many."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            lines = await asyncio.to_thread(read, file)
            if len(lines) >= count:
                return lines
            await asyncio.sleep(0.02)


def planned(task: str) -> float:
    """Return the time that a firing's id says, in Unix seconds."""
    stamp = task.split(":")[2]
    shape = "%Y%m%dT%H%M%S.%fZ" if "." in stamp else "%Y%m%dT%H%M%SZ"
    return datetime.strptime(f"{stamp}+0000", f"{shape}%z").timestamp()


async def fired(agent: Program, count: int) -> list[str]:
    """Return the first firings of an agent, in order, once there are so many."""
    found: list[str] = []
    seen = 0
    while len(found) < count:
        task = (await agent.logged(FIRED, after=seen))[1]
        seen = next(number for number, line in enumerate(agent.lines) if number >= seen and task in line) + 1
        if task not in found:
            found.append(task)
    return found


async def test_an_agent_that_is_killed_again_and_again_keeps_its_rhythm_and_fires_nothing_twice(house: House) -> None:
    """With nobody there: neither hub nor broker."""
    house.broker.stop()
    trace = house.folder / "trace"
    settings = schedule(house, "every_seconds = 1", kind="trace", params=f"{{ path = '{trace}' }}")
    for life in range(4):
        agent = await house.agent_process("w1", "site-a", **settings)
        await lines_of(trace, 2 * (life + 1))
        await agent.kill()
    house.broker.start()
    agent = await house.agent("w1", "site-a", **settings)
    lines = await lines_of(trace, 10)
    hub = await house.hub()
    known = await told(hub, lines)

    runs = Counter(line.split()[0] for line in lines)
    assert set(runs.values()) == {1}
    assert len({planned(task) % 1 for task in runs}) == 1
    assert all(known[task]["worker"] == "w1" for task in runs)
    assert all(known[task]["labels"] == {"schedule": "file:j"} for task in runs)


async def told(hub: Hub, lines: list[str]) -> dict[str, dict[str, object]]:
    """Return the tasks that the hub knows, once it knows the end of each in a trace."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            known = {str(one["id"]): one for one in await hub.items("/api/tasks", limit="500")}
            if all(line.split()[0] in known and known[line.split()[0]]["finished_at"] for line in lines):
                return known
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("misfire", "expected"), [("skip", "job_skipped"), ("once", "job_fired")])
async def test_what_was_due_while_the_agent_did_not_run_is_skipped_or_made_up_for(
    house: House, faketime: str, misfire: str, expected: str
) -> None:
    clock = WrongClock(house.folder / "clock", faketime, "+0")
    clock.set_to("2026-12-01T02:00:00Z")
    settings = schedule(house, "cron = '0 3 * * *'", f"misfire = '{misfire}'")
    agent = await house.agent("w1", "site-a", **settings, **clock.environment)
    await agent.stop()
    clock.set_to("2026-12-04T09:00:00Z")

    agent = await house.agent("w1", "site-a", **settings, **clock.environment)
    await agent.logged(rf"{expected}.*20261204T030000Z")
    await agent.stop()
    assert sum("job_fired" in line for line in agent.lines) == (misfire == "once")

    again = await house.agent("w1", "site-a", **settings, **clock.environment)
    await again.stop()
    assert not any("job_fired" in line or "job_skipped" in line for line in again.lines)


async def test_a_cron_of_the_hosts_zone_is_an_hour_later_where_spring_leaves_the_hour_out(
    house: House, faketime: str
) -> None:
    clock = WrongClock(house.folder / "clock", faketime, "+0")
    settings = schedule(house, "cron = '30 2 * * *'", "timezone = 'local'")
    clock.set_to("2026-03-29T01:29:57Z")
    agent = await house.agent_process("w1", "site-a", TZ="Europe/Berlin", **settings, **clock.environment)

    assert (await agent.logged(FIRED))[1] == "file:j:20260329T013000Z:w1"


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_clock_that_is_set_by_years_and_back_fires_once_and_goes_on(house: House, faketime: str) -> None:
    clock = WrongClock(house.folder / "clock", faketime, "+0")
    clock.set_to("2026-12-01T02:59:54Z")
    settings = schedule(house, "cron = '* * * * *'", "overlap = 'queue'")  # whatever the last run does
    agent = await house.agent("w1", "site-a", **settings, **clock.environment)
    assert await fired(agent, 1) == ["file:j:20261201T030000Z:w1"]

    clock.set_to("2036-12-01T03:00:20Z")
    assert (await fired(agent, 2))[1] == "file:j:20361201T030000Z:w1"
    clock.set_to("2026-12-01T03:00:54Z")
    assert (await fired(agent, 3))[2] == "file:j:20261201T030100Z:w1"
    await agent.stop()

    assert sum("job_fired" in line for line in agent.lines) == 3
    assert sum("clock_was_set" in line for line in agent.lines) == 2


async def test_a_host_that_starts_in_1970_fires_its_intervals_and_misses_nothing_when_it_learns_the_time(
    house: House, faketime: str
) -> None:
    clock = WrongClock(house.folder / "clock", faketime, "+0")
    settings = schedule(house, "cron = '0 3 * * *'", "misfire = 'once'")
    with (house.folder / "schedule.toml").open("a") as file:
        file.write("\n[[job]]\nname = 'tick'\nevery_seconds = 1\nmisfire = 'once'\ntask = { kind = 'noop' }\n")
    clock.set_to("2026-12-01T02:59:58Z")
    agent = await house.agent("w1", "site-a", **settings, **clock.environment)
    await agent.logged(r"job_fired.*file:j:20261201T030000Z")
    await agent.kill()

    clock.set_to("1970-01-02T00:00:00Z")
    agent = await house.agent("w1", "site-a", **settings, **clock.environment)
    await agent.logged(r"job_fired.*file:tick:19700102T")
    clock.set_to("2026-12-01T05:00:00Z")
    await agent.logged(r"clock_was_set")
    await agent.logged(r"job_fired.*file:tick:20261201T0500")
    await agent.stop()

    assert not any("file:j:" in line and "job_fired" in line for line in agent.lines)


async def test_a_wrong_schedule_ends_the_agent_at_its_start_with_the_line_that_says_why(house: House) -> None:
    agent = await house.agent_process("w1", "site-a", **schedule(house, "cron = '0 3 * * 8'"))

    assert await agent.ended() == 2
    told = 'schedule.toml: job j: cron is "0 3 * * 8": expected a weekday from 0 to 7'
    assert any(line.startswith(told) for line in agent.lines)


async def test_schedules_are_put_listed_shown_and_deleted_on_the_command_line(house: House) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a")
    file = house.folder / "jobs.toml"
    file.write_text(
        "[[job]]\nname = 'a'\ncron = '0 3 * * mon-fri'\ntimezone = 'Europe/Berlin'\ntask = { kind = 'noop' }\n"
        "[[job]]\nname = 'b'\nevery_seconds = 60\nstart = 2026-12-01T08:00:00+01:00\ntask = { kind = 'noop' }\n"
    )
    url = str(hub.http.base_url)

    code, said = await edge_hub(url, "put", str(file), "--site", "site-a")
    assert (code, said.splitlines()[0]) == (0, "a: 0 of 1 workers have it by now")
    await agent.logged("schedules_pushed.*jobs=2")
    code, said = await edge_hub(url, "list")
    assert code == 0
    assert "0 3 * * mon-fri Europe/Berlin" in said
    assert "each 60 s" in said
    code, said = await edge_hub(url, "show", "b", "--json")
    assert '"start": "2026-12-01T08:00:00+01:00"' in said
    code, said = await edge_hub(url, "show", "b")
    assert "w1" in said
    assert await edge_hub(url, "delete", "a") == (0, "a is deleted\n")
    await agent.logged("schedules_pushed.*jobs=1")
    code, said = await edge_hub(url, "delete", "a")
    assert (code, said) == (2, 'name is "a": expected one that exists\n')
    file.write_text("[[job]]\nname = 'c'\ncron = 'x'\ntask = { kind = 'noop' }\n")
    code, said = await edge_hub(url, "put", str(file))
    assert (code, said.startswith('cron is "x": expected five fields')) == (2, True)


async def edge_hub(url: str, *arguments: str) -> tuple[int, str]:
    """Run `edge-hub schedules`, and return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hub",
        "schedules",
        *arguments,
        env=clean_environment({"HUB_URL": url, "COLUMNS": "120"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
