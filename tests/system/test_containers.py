"""Containers through whole programs: what comes of them when the agent dies or stops, or the engine goes away."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from broker.local import find_client
from tests.support.engine import IMAGE, TestEngine, running_engine
from tests.support.programs import ROOT, House, Hub, Program, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.docker


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as made:
        yield made


def docker(engine: TestEngine, **more: str) -> dict[str, str]:
    return {
        "WORKER_DOCKER_URL": engine.url,
        "WORKER_CAPABILITIES": '{"docker": true}',
        "WORKER_ALLOW_IMAGES": '["holdfast-test-busybox:*"]',
        **more,
    }


def container(task: str, script: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401  any field
    params = {"image": IMAGE, "command": ["sh", "-c", script], **more.pop("params", {})}
    return {"id": task, "kind": "container", "params": params, **more}


def counting(seconds: int) -> str:
    """Return a script that writes a line each tenth of a second, each of them once."""
    return f"i=0; while [ $i -lt {seconds * 10} ]; do echo $i; i=$((i+1)); sleep 0.1; done"


def lines(seconds: int) -> str:
    return "".join(f"{number}\n" for number in range(seconds * 10))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_an_agent_that_comes_back_takes_up_a_container_that_runs(
    house: House, engine: TestEngine, how: signal.Signals
) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **docker(engine))
    await hub.post(container("ten", counting(10), idempotent=False))
    await engine.until(engine.running)
    (began,) = engine.running()
    await engine.until_written(began, b"\n9\n")  # so that some of its output is in the log, and some is not
    agent.signal(how)
    await agent.ended()
    assert engine.running() == [began]

    agent = await house.agent("w1", "site-a", **docker(engine))
    await agent.logged("container_taken_up.*status=running")
    task = await hub.task("ten")
    assert (task["state"], task["attempt"]) == ("succeeded", 1)
    assert task["result"] == {"exit_code": 0, "output": lines(10), "truncated": False}
    log = b"".join(file.read_bytes() for file in sorted((house.folder / "w1" / "logs").rglob("*.log")))
    assert log.decode() == lines(10)
    await engine.until(lambda: not engine.containers())


async def test_one_that_ended_while_no_agent_was_there_is_told_and_one_that_nobody_holds_is_removed(
    house: House, engine: TestEngine
) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **docker(engine))
    await hub.post(container("short", "echo begun; sleep 2; echo done; exit 7", idempotent=False))
    await engine.until(engine.running)
    (name,) = [one["Names"][0].lstrip("/") for one in engine.containers()]
    await agent.kill()
    with contextlib.closing(engine.api()) as api:
        labels = dict(api.inspect_container(name)["Config"]["Labels"])
        await asyncio.to_thread(api.wait, name)
        config = {"Image": IMAGE, "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"}}
        orphan, others = (
            {**labels, "holdfast.task": "gone"},
            {**labels, "holdfast.worker": "w2", "holdfast.task": "gone"},
        )
        api.create_container_from_config({**config, "Labels": orphan}, "orphan")  # type: ignore[no-untyped-call]
        api.create_container_from_config({**config, "Labels": others}, "others")  # type: ignore[no-untyped-call]
        for one in ("orphan", "others"):
            api.start(one)

    agent = await house.agent("w1", "site-a", **docker(engine))
    task = await hub.task("short")
    assert (task["state"], task["error"]) == ("failed", "exit code 7")
    assert task["result"] == {"exit_code": 7, "output": "begun\ndone\n", "truncated": False}
    await engine.until(lambda: [one["Names"] for one in engine.containers()] == [["/others"]])
    await agent.logged("container_left_over_removed.*name=orphan")


async def test_the_time_limit_of_one_that_was_taken_up_counts_from_its_beginning(
    house: House, engine: TestEngine
) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **docker(engine))
    params = {"stop_seconds": 0}
    await hub.post(container("late", "sleep 6; echo late; sleep 600", timeout_seconds=6, params=params))
    await engine.until(engine.running)
    await agent.kill()
    await engine.until_written(engine.running()[0], b"late")  # no agent is there to see the limit pass
    await house.agent("w1", "site-a", **docker(engine))
    task = await hub.task("late")
    assert (task["state"], task["error"]) == ("timed_out", "not done within 6 s")
    await engine.until(lambda: not engine.containers())


async def test_without_an_engine_the_agent_is_online_at_once_and_offers_no_containers(
    house: House, tmp_path: Path
) -> None:
    hub = await house.hub()
    nowhere = {"WORKER_DOCKER_URL": f"unix://{tmp_path}/no.sock", "WORKER_CAPABILITIES": '{"docker": true}'}
    agent = await house.agent("w1", "site-a", **nowhere)
    await agent.logged("capability_withdrawn.*No such file or directory")
    await hub.program.logged(r"worker=w1.*state=online")
    (worker,) = await hub.items("/api/workers")
    assert "docker" not in worker["capabilities"]  # type: ignore[operator]
    assert "container" not in worker["kinds"]  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_an_engine_that_stops_and_starts_under_load_costs_no_task(
    house: House, engine: TestEngine, mortal_engine: TestEngine
) -> None:
    count = 60
    hub = await house.hub()
    lasting = await house.agent("lasting", "site-a", **docker(engine, WORKER_SLOTS="2"))
    mortal = await house.agent("mortal", "site-a", **docker(mortal_engine, WORKER_SLOTS="2"))
    for number in range(count):
        await hub.post(
            container(
                f"t{number}",
                f"sleep 0.2; echo {number}",
                site="site-a",
                retry={"max_attempts": 5, "backoff_seconds": 0.1},
            )
        )
    await mortal_engine.until(mortal_engine.running)
    await asyncio.to_thread(mortal_engine.stop)
    await mortal.logged("capability_withdrawn.*docker")
    withdrawn = len(mortal.lines)
    stuck = {str(task["id"]) for task in await hub.items("/api/tasks", worker="mortal", limit="500")}
    for number in range(count // 2):  # the other worker works on, alone
        if f"t{number}" not in stuck:
            assert (await ended(hub, f"t{number}"))["state"] == "succeeded"
    claimed = [line for line in mortal.lines[withdrawn:] if "task_accepted" in line]
    assert claimed == []
    await asyncio.to_thread(mortal_engine.start)
    await mortal.logged("capability_restored.*docker", after=withdrawn)
    for number in range(count):
        task = await ended(hub, f"t{number}")
        assert (task["state"], task["result"]) == (
            "succeeded",
            {"exit_code": 0, "output": f"{number}\n", "truncated": False},
        )
    workers = {str(task["worker"]) for task in await hub.items("/api/tasks", kind="container", limit="500")}
    assert workers == {"lasting", "mortal"}
    assert lasting.pid != mortal.pid
    await engine.until(lambda: not engine.containers())
    await mortal_engine.until(lambda: not mortal_engine.containers())


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_frozen_engine_is_noticed_and_what_ran_on_it_goes_on_when_it_thaws(
    house: House, mortal_engine: TestEngine
) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **docker(mortal_engine))
    await hub.post(container("long", counting(20), idempotent=False))
    await mortal_engine.until(mortal_engine.running)
    mortal_engine.freeze()
    await agent.logged("capability_withdrawn.*docker")
    mortal_engine.thaw()
    await agent.logged("capability_restored.*docker")
    task = await ended(hub, "long")
    assert task["state"] == "succeeded"
    assert task["result"] == {"exit_code": 0, "output": lines(20), "truncated": False}


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_container_that_the_engine_has_kept_running_goes_on_after_it_was_killed(house: House) -> None:
    with running_engine(live_restore=True) as engine:
        hub = await house.hub()
        agent: Program = await house.agent("w1", "site-a", **docker(engine))
        await hub.post(container("kept", counting(8), idempotent=False))
        await engine.until(engine.running)
        await asyncio.to_thread(engine.stop)
        await agent.logged("capability_withdrawn.*docker")
        await asyncio.to_thread(engine.start)
        task = await ended(hub, "kept")
        assert (task["state"], task["attempt"]) == ("succeeded", 1)
        assert task["result"] == {"exit_code": 0, "output": lines(8), "truncated": False}


async def test_what_an_engine_that_stops_ends_was_interrupted(house: House, mortal_engine: TestEngine) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **docker(mortal_engine))
    script = "trap 'echo bye; exit 0' TERM; echo on; while true; do sleep 0.1; done"
    await hub.post(container("served", script, idempotent=False))
    await mortal_engine.until(mortal_engine.running)
    await asyncio.to_thread(mortal_engine.stop)
    await agent.logged("capability_withdrawn.*docker")
    await asyncio.to_thread(mortal_engine.start)
    task = await ended(hub, "served")
    assert (task["state"], task["error"]) == (
        "failed",
        "the container was stopped by the engine or by somebody else",
    )
    attempts = (await hub.http.get("/api/tasks/served")).json()["attempts"]
    assert [one["state"] for one in attempts] == ["interrupted"]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_an_agent_killed_at_any_moment_has_each_container_run_once(house: House, engine: TestEngine) -> None:
    hub = await house.hub()
    moments = [0.0, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5, 0.8, 1.2]
    begun = time.time()
    for number, seconds in enumerate(moments):
        agent = await house.agent("w1", "site-a", **docker(engine))
        await hub.post(container(f"t{number}", f"echo {number}; sleep 0.4; echo end", idempotent=False))
        await asyncio.sleep(seconds)  # the fault comes by the clock: somewhere in the life of the task
        await agent.kill()
    await house.agent("w1", "site-a", **docker(engine))
    tasks = [await ended(hub, f"t{number}") for number in range(len(moments))]
    with contextlib.closing(engine.api()) as api:
        window = {"since": int(begun), "until": int(time.time()) + 1}
        events = api.events(**window, filters={"type": "container", "event": "start"}, decode=True)
        starts = Counter(event["Actor"]["Attributes"]["holdfast.task"] for event in events)
    for number, task in enumerate(tasks):
        # One may have died between the mark that it begins and the container's name: it is not begun again.
        expected = (0, "failed") if starts[f"t{number}"] == 0 else (1, "succeeded")
        assert (starts[f"t{number}"], task["state"]) == expected, task
        if task["state"] == "succeeded":
            assert task["result"] == {"exit_code": 0, "output": f"{number}\nend\n", "truncated": False}
    assert len([task for task in tasks if task["state"] == "succeeded"]) >= len(moments) // 2
    await engine.until(lambda: not engine.containers())


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_an_engine_that_is_killed_costs_no_task(house: House, mortal_engine: TestEngine) -> None:
    hub = await house.hub()
    agent = await house.agent("w1", "site-a", **docker(mortal_engine))
    retry = {"max_attempts": 5, "backoff_seconds": 0.1}
    for number in range(12):
        await hub.post(container(f"t{number}", f"echo {number}; sleep 0.4; echo end", retry=retry))
    await mortal_engine.until(mortal_engine.running)
    await asyncio.to_thread(mortal_engine.stop, signal.SIGKILL)
    await agent.logged("capability_withdrawn.*docker")
    await asyncio.to_thread(mortal_engine.start)
    for number in range(12):
        task = await ended(hub, f"t{number}")
        assert task["state"] == "succeeded", task
        result = task["result"]
        # One that came to its end with no engine there has lost what it wrote last, and says so.
        assert result["output"] == f"{number}\nend\n" or result["truncated"], result
    await mortal_engine.until(lambda: not mortal_engine.containers())


async def test_the_guide_does_what_it_says(house: House, engine: TestEngine) -> None:
    engine.import_image("busybox:1")
    text = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    start, by_http, by_mqtt = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    hub = await house.hub()
    settings = dict(word.split("=", 1) for word in shlex.split(start) if word.startswith("WORKER_"))
    settings["WORKER_OFFLINE_DIR"] = str(house.folder / "docker-01")
    await house.agent(settings["WORKER_ID"], settings["WORKER_SITE"], **settings, WORKER_DOCKER_URL=engine.url)

    shown = await sh(by_http.replace("localhost:8000", str(hub.http.base_url).removeprefix("http://").rstrip("/")))
    assert '"state":"succeeded"' in shown
    assert shown.endswith("hello you\n")
    await sh(by_mqtt.replace("mosquitto_pub ", f"{find_client('mosquitto_pub')} -p {house.broker.port} "))
    await hub.program.logged("report-8")
    task = await ended(hub, "report-8")
    assert task["state"] == "succeeded"


async def sh(script: str) -> str:
    process = await asyncio.create_subprocess_exec("bash", "-euc", script, stdout=subprocess.PIPE)
    shown, _ = await process.communicate()
    assert process.returncode == 0
    return shown.decode()


async def ended(hub: Hub, task: str) -> dict[str, Any]:
    """Wait for the end of a task, longer than one request does."""
    async with asyncio.timeout(60):
        while True:
            answer = await hub.http.get(f"/api/tasks/{task}/wait", params={"timeout": 5})
            found: dict[str, Any] = answer.json()
            if found["finished_at"] is not None:
                return found
