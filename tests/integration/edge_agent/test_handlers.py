"""Handlers in an agent that runs: how many at one time, where they come from, and what becomes of them."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from broker.messages import Outcome
from edge_agent import Agent, TaskContext
from edge_agent.executors import thread
from tests.support.distributions import install
from tests.support.http_server import answer, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio


class Counted:
    """A handler that counts how many of it run at one time, and goes on when it is told to."""

    def __init__(self, *, concurrency: int) -> None:
        self.agent = Agent()
        self.now = 0
        self.most = 0
        self.order: list[str] = []
        self.go = asyncio.Event()
        self.agent.task("counted", concurrency=concurrency)(self._handler())

    def _handler(self) -> Any:  # noqa: ANN401  a function
        async def counted(ctx: TaskContext) -> None:
            self.order.append(ctx.task_id)
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await self.go.wait()
            finally:
                self.now -= 1

        return counted


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_so_many_of_a_kind_run_at_one_time_and_the_others_go_past_them(stage: Stage, concurrency: int) -> None:
    counted = Counted(concurrency=concurrency)
    async with stage.synced(agents=[counted.agent], slots=4):
        await stage.hub.inject([{"id": f"c{number}", "kind": "counted"} for number in range(6)])
        await stage.hub.inject([{"id": f"n{number}", "kind": "noop"} for number in range(20)])
        await stage.hub.until(lambda: {f"n{number}" for number in range(20)} <= stage.hub.finished().keys())
        assert counted.order == [f"c{number}" for number in range(concurrency)]
        counted.go.set()
        await stage.hub.until(lambda: len(stage.hub.finished()) == 26)
    assert counted.most == concurrency
    assert counted.order == [f"c{number}" for number in range(6)]


async def test_a_place_is_free_again_however_a_task_ended(stage: Stage) -> None:
    counted = Counted(concurrency=1)
    async with stage.synced(agents=[counted.agent]) as app:
        await stage.hub.inject({"id": "late", "kind": "counted", "timeout_seconds": 0.1})
        assert (await stage.hub.ended("late")).outcome is Outcome.TIMED_OUT
        await stage.hub.inject({"id": "gone", "kind": "counted"})
        await stage.hub.inject({"id": "next", "kind": "counted"})
        await stage.hub.until(lambda: "next" in stage.hub.accepted())
        app.runner.cancel(app.runner.running[0], "nobody wants it")
        assert (await stage.hub.ended("gone")).outcome is Outcome.CANCELLED
        counted.go.set()
        assert (await stage.hub.ended("next")).outcome is Outcome.SUCCEEDED
    assert counted.most == 1


async def test_a_thread_that_could_not_be_stopped_keeps_its_place(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread, "THREAD_GRACE_SECONDS", 0.1)
    agent, release, seen = Agent(), threading.Event(), list[str]()

    @agent.task("deaf", concurrency=1)
    def deaf(ctx: TaskContext) -> None:
        seen.append(ctx.task_id)
        release.wait(30)

    async with stage.synced(agents=[agent]):
        await stage.hub.inject({"id": "stuck", "kind": "deaf", "timeout_seconds": 0.1})
        assert (await stage.hub.ended("stuck")).outcome is Outcome.TIMED_OUT
        await stage.hub.inject({"id": "waits", "kind": "deaf"})
        await stage.hub.inject({"id": "other", "kind": "noop"})
        await stage.hub.ended("other")
        assert seen == ["stuck"]
        release.set()
        assert (await stage.hub.ended("waits")).outcome is Outcome.SUCCEEDED


async def test_what_waits_for_its_place_can_be_cancelled_and_survives_a_restart(stage: Stage) -> None:
    counted = Counted(concurrency=1)
    async with stage.synced(agents=[counted.agent]) as app:
        await stage.hub.go_offline()
        await stage.hub.inject([{"id": f"c{number}", "kind": "counted"} for number in range(3)])
        while app.runner.queued < 2:
            app.journal.grown.clear()
            await app.journal.grown.wait()
        waiting = next(ref for ref in app.runner.held if ref.task == "c1")
        app.runner.cancel(waiting, "nobody wants it")
    again = Counted(concurrency=1)
    again.go.set()
    async with stage.synced(agents=[again.agent]):
        assert (await stage.hub.ended("c1")).outcome is Outcome.CANCELLED
        assert (await stage.hub.ended("c2")).outcome is Outcome.SUCCEEDED
    assert again.order == ["c2"]


async def test_the_birth_tells_how_many_of_a_kind_run(stage: Stage) -> None:
    async with stage.agent(agents=[Counted(concurrency=2).agent]) as app:
        birth = (await stage.hub.until(lambda: stage.hub.births(app.name.worker)))[-1]
    assert birth.concurrency == {"counted": 2}


async def test_an_installed_plugin_offers_its_handlers_and_a_task_of_them_runs(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = (
        "from edge_agent import Agent\n"
        "agent = Agent()\n"
        "@agent.task('installed.greet')\n"
        "def greet(ctx, name: str = 'you'):\n"
        "    return f'hello {name}'\n"
    )
    target = install(tmp_path, "holdfast_greeter", {"holdfast_greeter": module}, {"greeter": "holdfast_greeter:agent"})
    monkeypatch.syspath_prepend(target)
    async with stage.synced(plugins=("greeter",)) as app:
        assert "installed.greet" in stage.hub.births(app.name.worker)[-1].kinds
        await stage.hub.inject({"id": "t", "kind": "installed.greet"})
        assert (await stage.hub.ended("t")).result == "hello you"


async def test_what_the_machine_has_is_told_and_a_handler_that_needs_more_is_not_offered(stage: Stage) -> None:
    agent = Agent()

    @agent.task("here", requires={"cpus": {"min": 1}, "os": {"in": ["linux", "darwin"]}})
    async def here(_ctx: TaskContext) -> None: ...

    @agent.task("elsewhere", requires={"arch": "pdp11"})
    async def elsewhere(_ctx: TaskContext) -> None: ...

    async with stage.agent(agents=[agent], capabilities={"memory_mb": 1, "camera": True}) as app:
        birth = (await stage.hub.until(lambda: stage.hub.births(app.name.worker)))[-1]
    assert {"arch", "os", "cpus"} <= birth.capabilities.keys()
    assert (birth.capabilities["memory_mb"], birth.capabilities["camera"]) == (1, True)
    assert "here" in birth.kinds
    assert "elsewhere" not in birth.kinds


async def test_a_request_is_a_task_where_there_is_network_access(stage: Stage) -> None:
    async with serving({"/health": answer(body=b'{"status": "ok"}')}) as server:
        task = {"kind": "http", "params": {"url": f"{server.url}/health", "expect": {"json": {"/status": "ok"}}}}
        async with stage.synced("without") as app:
            await stage.hub.inject_to(app.name.worker, {"id": "declined", **task})
            declined = (await stage.hub.until(stage.hub.declined))["declined"]
        async with stage.synced("with", capabilities={"network_access": True}, allow_urls=[f"{server.url}/**"]) as app:
            await stage.hub.inject_to(app.name.worker, {"id": "asked", **task})
            asked = await stage.hub.ended("asked")
            other = {"kind": "http", "params": {"url": "http://me:secret@elsewhere.example/"}}
            await stage.hub.inject_to(app.name.worker, {"id": "forbidden", **other})
            forbidden = await stage.hub.until(lambda: stage.hub.declined().get("forbidden"))
    assert declined.reason == "http does not run here: network_access is missing, expected true"
    assert asked.outcome is Outcome.SUCCEEDED
    assert forbidden
    assert forbidden.reason == "WORKER_ALLOW_URLS does not allow 'http://elsewhere.example/'"
