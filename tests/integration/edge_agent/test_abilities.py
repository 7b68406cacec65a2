"""What a worker has may go and come back while it runs: what it offers and what it holds follow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker.messages import Outcome
from edge_agent import Agent, TaskContext
from edge_agent.errors import CannotRunHere, TaskInterrupted
from tests.integration.edge_agent.stage import PATIENCE_SECONDS

if TYPE_CHECKING:
    from edge_agent.app import App
    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio

WITH_SCANNER = {"scanner": True, "rack": 3}


def scanning() -> Agent:
    agent = Agent()

    @agent.task("scan", requires={"scanner": True})
    async def scan(ctx: TaskContext) -> str:
        return ctx.task_id

    return agent


async def taken(app: App, task: str) -> None:
    """Return when a task is held: it is in the commit that its acceptance is in."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not app.runner.holds(task):
            app.journal.grown.clear()
            await app.journal.grown.wait()


async def test_what_is_withdrawn_is_not_offered_until_it_is_restored(stage: Stage) -> None:
    async with stage.synced(agents=[scanning()], capabilities=WITH_SCANNER) as app:
        births = stage.hub.births(app.name.worker)
        assert births[-1].capabilities.items() >= WITH_SCANNER.items()
        assert "scan" in births[-1].kinds
        app.abilities.withdraw("scanner", "unplugged")
        without = await stage.hub.until(
            lambda: [one for one in stage.hub.births(app.name.worker) if "scanner" not in one.capabilities]
        )
        assert without[-1].capabilities["rack"] == 3
        assert "scan" not in without[-1].kinds
        app.abilities.restore("scanner")
        await stage.hub.until(lambda: "scan" in stage.hub.births(app.name.worker)[-1].kinds)


async def test_what_waits_for_a_slot_goes_back_to_the_hub_when_it_cannot_run_any_more(stage: Stage) -> None:
    async with stage.synced(agents=[scanning()], capabilities=WITH_SCANNER, slots=1) as app:
        await stage.hub.inject_to(app.name.worker, {"id": "long", "kind": "sleep", "params": {"seconds": 60}})
        await stage.hub.inject_to(app.name.worker, {"id": "other", "kind": "noop", "attempt": 1})
        await stage.hub.inject_to(app.name.worker, {"id": "t", "kind": "scan", "attempt": 4})
        await stage.hub.until(lambda: {"long", "other", "t"} <= stage.hub.accepted().keys())
        app.abilities.withdraw("scanner", "unplugged")
        declined = await stage.hub.until(lambda: stage.hub.declined().get("t"))
        assert declined
        assert declined.attempt == 4
        assert declined.reason == "scanner is missing, expected true; scanner: unplugged"
        assert stage.hub.declined().keys() == {"t"}
        app.runner.cancel(next(iter(app.runner.running)), "it has done its part")
        assert (await stage.hub.ended("other")).outcome is Outcome.SUCCEEDED


async def test_alone_a_task_waits_for_what_is_withdrawn_and_runs_when_it_is_back(stage: Stage) -> None:
    async with stage.agent(agents=[scanning()], capabilities=WITH_SCANNER) as app:
        app.abilities.withdraw("scanner", "unplugged")
        await stage.hub.inject({"id": "t", "kind": "scan"})
        await taken(app, "t")
        app.abilities.restore("scanner")
        await stage.hub.come_online()
        await stage.hub.sync(app.name.worker)
        assert (await stage.hub.ended("t")).result == "t"


async def test_what_waits_alone_goes_to_the_hub_that_comes(stage: Stage) -> None:
    async with stage.agent(agents=[scanning()], capabilities=WITH_SCANNER) as app:
        app.abilities.withdraw("scanner", "unplugged")
        await stage.hub.inject({"id": "t", "kind": "scan", "labels": {"a": "b"}})
        await taken(app, "t")
        await stage.hub.come_online()
        await stage.hub.sync(app.name.worker)
        declined = await stage.hub.until(lambda: stage.hub.declined().get("t"))
        assert declined
        assert declined.injected
        assert declined.injected.spec.labels == {"a": "b"}
        assert app.runner.queued == 0
        assert app.runner.held == []


async def test_an_executor_that_cannot_begin_gives_its_attempt_back(stage: Stage) -> None:
    agent = Agent()

    @agent.task("scan")
    async def scan(ctx: TaskContext) -> None:
        raise CannotRunHere(f"no paper for {ctx.task_id}")

    async with stage.synced(agents=[agent]) as app:
        await stage.hub.inject_to(app.name.worker, {"id": "t", "kind": "scan", "attempt": 2})
        declined = await stage.hub.until(lambda: stage.hub.declined().get("t"))
        assert declined
        assert declined.reason == "no paper for t"
        assert app.runner.held == []
        assert app.runner.running == []


async def test_an_executor_can_say_that_something_else_ended_its_work(stage: Stage) -> None:
    agent = Agent()

    @agent.task("scan")
    async def scan(ctx: TaskContext) -> None:
        raise TaskInterrupted("unplugged", {"pages": ctx.attempt})

    async with stage.synced(agents=[agent]) as app:
        await stage.hub.inject_to(app.name.worker, {"id": "t", "kind": "scan", "attempt": 2})
        end = await stage.hub.ended("t")
    assert (end.outcome, end.error, end.result) == (Outcome.INTERRUPTED, "unplugged", {"pages": 2})


async def test_a_reason_that_is_no_text_harms_nobody(stage: Stage) -> None:
    agent = Agent()

    @agent.task("scan")
    async def scan(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise CannotRunHere("no paper in caf\udce9")
        raise TaskInterrupted("unplugged in caf\udce9")

    async with stage.synced(agents=[agent]) as app:
        await stage.hub.inject_to(app.name.worker, {"id": "t", "kind": "scan", "attempt": 1})
        declined = await stage.hub.until(lambda: stage.hub.declined().get("t"))
        assert declined
        assert declined.reason == "no paper in caf\\udce9"
        await stage.hub.inject_to(app.name.worker, {"id": "u", "kind": "scan", "attempt": 2})
        end = await stage.hub.ended("u")
        assert (end.outcome, end.error) == (Outcome.INTERRUPTED, "unplugged in caf\\udce9")
