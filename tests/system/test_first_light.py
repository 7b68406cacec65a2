"""The whole way with real processes: what must hold of tasks, of presence, and of starting."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from broker.local import find_client
from tests.support.programs import House, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


async def test_a_task_runs_with_no_hub_and_a_late_hub_learns_of_it(house: House) -> None:
    agent = await house.agent("w1", "site-a")
    await house.inject("site-a", '{"id":"t1","kind":"noop","params":{"n":1}}')
    await agent.logged(r"task_ended.*t1")

    hub = await house.hub()
    await hub.program.logged(r"committed.*worker=w1")

    task = await hub.task("t1")
    assert (task["state"], task["worker"], task["site"], task["via"]) == ("succeeded", "w1", "site-a", "site")
    assert task["result"] == {"n": 1}


async def test_an_injected_task_waits_with_its_reason_until_a_worker_comes(house: House) -> None:
    hub = await house.hub()
    await house.inject("site-a", '{"id":"t1","kind":"noop","requires":{"camera":true}}')
    await hub.program.logged(r"adopted.*t1")

    pending = (await hub.http.get("/api/tasks/t1")).json()
    assert (pending["state"], pending["reason"]) == ("pending", "no worker at site-a is known")

    await house.agent("without", "site-a")
    await hub.program.logged(r"worker=without.*state=online")
    assert (await hub.http.get("/api/tasks/t1")).json()["reason"] == "no online worker at site-a has camera"

    await house.agent("with", "site-a", WORKER_CAPABILITIES='{"camera": true}')
    task = await hub.task("t1")
    assert (task["state"], task["worker"], task["attempt"]) == ("succeeded", "with", 1)


@pytest.mark.parametrize("with_id", [True, False])
async def test_a_hundred_injected_tasks_run_once_each_and_on_both_workers(house: House, *, with_id: bool) -> None:
    hub = await house.hub()
    for name in ("w1", "w2"):
        await house.agent(name, "site-a", WORKER_PLUGINS="tests.support.site_handlers")
    trace = house.folder / "trace"
    bodies = [
        {"kind": "trace", "params": {"path": str(trace)}} | ({"id": f"t{number}"} if with_id else {})
        for number in range(100)
    ]
    await house.inject_lines("site-a", [json.dumps(body) for body in bodies])
    for name in ("w1", "w2"):
        await hub.program.logged(rf"committed.*worker={name} .*through=\d\d+")  # more than `worker.started`
    await house.inject("site-a", *(f'{{"kind":"noop","id":"last-{number}"}}' for number in range(4)))

    ended = [await hub.task(f"t{number}") for number in range(100)] if with_id else []
    for number in range(4):
        await hub.program.logged(rf"adopted.*last-{number}")
        await hub.task(f"last-{number}")  # behind all the rest in both journals

    lines = [line.split() for line in trace.read_text().splitlines()]
    assert len({task for task, _, _ in lines}) == len(lines) == 100
    assert {task["state"] for task in ended} <= {"succeeded"}
    by_worker = Counter(worker for _, _, worker in lines)
    assert set(by_worker) == {"w1", "w2"}
    assert min(by_worker.values()) >= 20, by_worker
    assert len(await hub.items("/api/tasks", kind="trace", state="succeeded", limit="500")) == 100


async def test_a_killed_worker_is_offline_within_two_seconds_and_a_stopped_one_at_once(house: House) -> None:
    hub = await house.hub()
    killed = await house.agent("w1", "site-a")
    stopped = await house.agent("w2", "site-a")
    for name in ("w1", "w2"):
        await hub.program.logged(rf"worker=.?{name}.*state=online")

    began = time.monotonic()
    killed.signal(signal.SIGKILL)
    await hub.program.logged(r"worker=w1.*state=offline reason=connection_lost")
    assert time.monotonic() - began < 2
    assert await stopped.stop() == 0
    await hub.program.logged(r"worker=w2.*state=offline reason=stopped")

    shown = {worker["id"]: (worker["state"], worker["reason"]) for worker in await hub.items("/api/workers")}
    assert shown == {"w1": ("offline", "connection_lost"), "w2": ("offline", "stopped")}


async def test_a_late_will_does_not_end_the_new_session(house: House) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a")
    await house.publish("edge/v1/sites/site-a/workers/w1/status", '{"state":"offline","session":"of-long-ago"}')
    await agent.logged("status_healed")

    await hub.post({"id": "after", "kind": "noop", "worker": "w1"})
    assert (await hub.task("after"))["state"] == "succeeded"
    (worker,) = await hub.items("/api/workers")
    assert (worker["state"], worker["reason"]) == ("online", None)

    late = await house.hub(HUB_DATABASE_URL=f"sqlite:///{house.folder / 'late.db'}", HUB_CLIENT_ID="late-hub")
    await late.program.logged(r"worker=w1.*state=online")  # from what is retained: it was healed


async def test_a_worker_keeps_the_id_that_was_made_for_it(house: House) -> None:
    names = []
    for _ in range(2):
        agent = await house.agent_process("unnamed", "site-a", WORKER_ID="")
        names.append((await agent.logged(r"setting id=(worker-\S+)"))[1])
        await agent.logged(r"\bonline\b")
        await agent.stop()
    assert names[0] == names[1]


async def test_an_agent_finds_the_broker_through_the_hub_and_then_without_it(house: House) -> None:
    hub = await house.hub()
    settings = {"WORKER_BROKER_URL": "", "WORKER_CONTROL_PLANE_URL": str(hub.http.base_url).rstrip("/")}
    first = await house.agent("w1", "site-a", **settings)
    await first.stop()
    await hub.program.stop()

    again = await house.agent("w1", "site-a", **settings)
    await house.inject("site-a", '{"id":"alone","kind":"noop"}')
    await again.logged(r"task_ended.*alone")


async def test_both_programs_log_their_settings_one_to_a_line_with_secrets_masked(house: House) -> None:
    secrets = {"HUB_PASSWORD": "hub-secret", "WORKER_PASSWORD": "worker-secret"}
    hub = await house.hub(**secrets)
    agent = await house.agent("w1", "site-a", **secrets)

    await hub.program.logged(r"setting database_url=sqlite:///")
    await agent.logged(r"setting control_plane_url=http://localhost:8000$")
    await agent.logged(r"setting database=.*journal\.db$")
    for program in (hub.program, agent):
        await program.logged(r"setting password=\*+$")
        assert not any("-secret" in line for line in program.lines)


async def test_mosquitto_rr_is_answered_with_the_result(house: House) -> None:
    await house.agent("w1", "site-a")
    command = [find_client("mosquitto_rr"), "-V", "5", "-p", str(house.broker.port), "-q", "1", "-W", "10"]
    command += ["-t", "edge/v1/sites/site-a/tasks", "-e", "edge/v1/replies/me"]
    for payload, expected in (
        (
            '{"id":"asked","kind":"noop","params":{"n":1}}',
            {"task": "asked", "outcome": "succeeded", "result": {"n": 1}},
        ),
        (
            '{"kind":"noop","timeout_secs":1}',
            {"outcome": "rejected", "error": "timeout_secs is 1: there is no such field"},
        ),
    ):
        process = await asyncio.create_subprocess_exec(*command, "-m", payload, stdout=asyncio.subprocess.PIPE)
        answer, _ = await process.communicate()
        assert json.loads(answer) == expected


async def test_hub_and_agents_find_each_other_again_after_the_broker_was_killed(house: House) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a")
    await agent.logged("synced")
    house.broker.kill()
    await hub.program.logged("broker_link_down")
    known = len(hub.program.lines)
    house.broker.start()
    await hub.program.logged(r"worker=w1.*state=online", after=known)

    await hub.post({"id": "after", "kind": "noop", "site": "site-a"})
    assert (await hub.task("after"))["state"] == "succeeded"
