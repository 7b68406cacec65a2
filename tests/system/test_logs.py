"""What tasks write, by way of `GET /api/tasks/{id}/log`: with real programs, whose output is more than memory takes."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.programs import House, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.programs import Hub, Program

FLOOD_BYTES = 1_000_000_000
FLAT_MB = 25
"""By how much the agent's memory may grow under a flood: what waits, and what Python keeps for itself."""

LOG_BYTES = 2_000_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


def command(task: str, script: str, **more: object) -> dict[str, object]:
    return {"id": task, "kind": "command", "site": "site-a", "params": {"argv": ["sh", "-c", script]}, **more}


async def pair(house: House, **settings: str) -> tuple[Hub, Program]:
    hub = await house.hub()
    allowed = {"WORKER_ALLOW_COMMANDS": '["sh -c *"]', "WORKER_LOG_MAX_MB": str(LOG_BYTES / 1e6), **settings}
    agent = await house.agent("w1", "site-a", **allowed)
    await hub.program.logged(r"worker=w1.*state=online")
    return hub, agent


async def read(hub: Hub, task: str, **query: str | int) -> tuple[bytes, dict[str, str]]:
    answer = await hub.http.get(f"/api/tasks/{task}/log", params=query)
    assert answer.status_code == 200, answer.text
    return answer.content, dict(answer.headers)


async def problem(hub: Hub, task: str, **query: str | int) -> tuple[int, str]:
    answer = await hub.http.get(f"/api/tasks/{task}/log", params=query)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["detail"]


async def test_a_flood_ends_with_its_newest_part_kept_and_the_agent_as_it_was(house: House) -> None:
    hub, agent = await pair(house, WORKER_SLOTS="2")
    process = psutil.Process(agent.pid)
    before = process.memory_info().rss / 1e6
    flood = f"head -c {FLOOD_BYTES} /dev/zero | tr '\\0' x; echo; echo the end"
    await hub.post(command("flood", flood, timeout_seconds=120))

    most, slowest, flooded = before, 0.0, asyncio.create_task(hub.task("flood"))
    number = 0
    while not flooded.done():
        number += 1
        began = time.monotonic()
        await hub.post({"id": f"beside-{number}", "kind": "noop", "site": "site-a"})
        assert (await hub.task(f"beside-{number}"))["state"] == "succeeded"
        slowest = max(slowest, time.monotonic() - began)
        most = max(most, process.memory_info().rss / 1e6)
        await asyncio.wait([flooded], timeout=0.1)
    task = await flooded
    print(  # noqa: T201  the figures, for who runs it by hand
        f"RSS {before:.1f} MB, at most {most:.1f}; of {number} tasks beside it the slowest took {slowest * 1000:.0f} ms"
    )

    assert task["state"] == "succeeded", task
    assert most - before < FLAT_MB
    assert slowest < 5
    content, headers = await read(hub, "flood")
    size = FLOOD_BYTES + len("\nthe end\n")
    assert content.endswith(b"xxx\nthe end\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert (headers["x-log-size"], headers["x-log-worker"], headers["x-log-attempt"]) == (str(size), "w1", "1")
    assert int(headers["x-log-offset"]) == int(headers["x-log-first"]) == size - len(content)
    assert LOG_BYTES / 2 <= len(content) <= LOG_BYTES
    assert (await read(hub, "flood", tail_bytes=8))[0] == b"the end\n"
    assert (await read(hub, "flood", offset=size - 4))[0] == b"end\n"
    assert (await read(hub, "flood", offset=size + 99))[0] == b""


async def test_who_follows_sees_it_as_it_comes_and_ends_with_it(house: House) -> None:
    hub, _ = await pair(house)
    await hub.post(command("count", "for i in 1 2 3; do echo $i; while ! test -e go-$i; do sleep 0.02; done; done"))
    seen = b""
    async with hub.http.stream("GET", "/api/tasks/count/log", params={"follow": "true"}) as answer:
        assert answer.status_code == 200
        async for chunk in answer.aiter_raw():
            seen += chunk
            (house.folder / f"go-{seen.split()[-1].decode()}").touch()
    assert seen == b"1\n2\n3\n"
    assert (await hub.task("count"))["state"] == "succeeded"


async def test_a_log_outlives_its_agent_and_says_who_is_away_meanwhile(house: House) -> None:
    hub, agent = await pair(house)
    await hub.post(command("t1", "echo kept"))
    await hub.task("t1")
    await agent.kill()
    await hub.program.logged(r"worker=w1.*state=offline")
    status, detail = await problem(hub, "t1")
    assert status == 503
    assert detail.startswith("w1 is offline since 20")
    so_far = len(hub.program.lines)
    await house.agent("w1", "site-a", WORKER_ALLOW_COMMANDS='["sh -c *"]')
    await hub.program.logged(r"worker=w1.*state=online", after=so_far)
    assert (await read(hub, "t1"))[0] == b"kept\n"


async def test_why_there_is_no_log_is_told(house: House) -> None:
    hub, agent = await pair(house)
    await hub.post({"id": "silent", "kind": "noop", "site": "site-a"})
    await hub.post({"id": "nowhere", "kind": "noop", "site": "site-b"})
    await hub.task("silent")
    assert await problem(hub, "silent") == (404, "attempt 1 at w1 wrote nothing")
    assert await problem(hub, "silent", attempt=2) == (404, 'attempt is "2": expected one that exists')
    assert await problem(hub, "nowhere") == (404, "task nowhere has no attempt: it is pending")
    assert (await problem(hub, "no-such"))[0] == 404
    status, detail = await problem(hub, "silent", tail_bytes=1, offset=1)
    assert (status, detail) == (422, "query.tail_bytes is 1: expected either offset or tail_bytes")
    agent.signal(signal.SIGSTOP)
    try:
        assert await problem(hub, "silent") == (504, "w1 has not answered within 10 s")
    finally:
        agent.signal(signal.SIGCONT)
