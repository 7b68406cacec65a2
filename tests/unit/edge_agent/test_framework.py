"""Handlers: how they are registered, validated, and run without a broker."""

from __future__ import annotations

import datetime as dt  # noqa: TC003  a handler's annotations are read when it is registered
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

import pytest

from broker.errors import InvalidInput
from broker.messages import Outcome
from edge_agent import Agent, TaskContext
from edge_agent.errors import PluginError
from edge_agent.executors import Registry
from edge_agent.plugins import load
from edge_agent.testing import run_task

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

agent = Agent()


@agent.task("camera.snapshot", requires={"network_access": True})
async def snapshot(ctx: TaskContext, url: str, retries: int = 3) -> dict[str, Any]:
    await ctx.progress(0.5, "connected")
    ctx.fact("camera/front", "firmware", "2.1", ttl_seconds=60)
    return {"url": url, "retries": retries, "attempt": ctx.attempt}


@agent.task("blocking")
def blocking(ctx: TaskContext, json: dict[str, int]) -> dict[str, Any]:
    ctx.progress(1)  # type: ignore[unused-awaitable]  # a thread cannot await, and need not
    return {"thread": threading.current_thread() is not threading.main_thread(), **json}


@agent.task("fails")
async def fails(_ctx: TaskContext, how: Literal["error", "exit", "stop", "nothing", "nan", "object"]) -> object:
    match how:
        case "error":
            raise ValueError("no such camera")
        case "exit":
            raise SystemExit(3)
        case "stop":
            raise TimeoutError
        case "nan":
            return float("nan")
        case "object":
            return object()
    return None


async def test_a_handler_gets_its_params_and_its_words_are_kept() -> None:
    run = await run_task(agent, "camera.snapshot", {"url": "http://x"}, attempt=2)
    assert (run.outcome, run.result) == (Outcome.SUCCEEDED, {"url": "http://x", "retries": 3, "attempt": 2})
    assert [(one.fraction, one.message) for one in run.progress] == [(0.5, "connected")]
    assert [(one.subject, one.name, one.value, one.ttl_seconds) for one in run.facts] == [
        ("camera/front", "firmware", "2.1", 60)
    ]


async def test_a_plain_function_runs_in_a_thread() -> None:
    run = await run_task(agent, "blocking", {"json": {"a": 1}})
    assert run.result == {"thread": True, "a": 1}
    assert len(run.progress) == 1


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({}, "params.url is missing: expected a value"),
        ({"url": 5}, "params.url is 5: expected a text"),
        ({"url": "x", "retries": "3"}, 'params.retries is "3": expected a whole number'),
        ({"url": "x", "retires": 3}, "params.retires is 3: there is no such field"),
    ],
)
async def test_wrong_params_are_rejected_by_name(params: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await run_task(agent, "camera.snapshot", params)
    assert str(raised.value) == line


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("error", "ValueError: no such camera"),
        ("exit", "SystemExit: 3"),
        ("stop", "TimeoutError"),
    ],
)
async def test_what_a_handler_raises_is_its_error(how: str, error: str) -> None:
    run = await run_task(agent, "fails", {"how": how})
    assert (run.outcome, run.error) == (Outcome.FAILED, error)


async def test_a_result_that_is_no_json_is_a_failure() -> None:
    run = await run_task(agent, "fails", {"how": "object"})
    assert run.outcome is Outcome.FAILED
    assert (run.error or "").startswith("the result is no JSON")


async def test_a_time_limit_ends_a_thread_as_far_as_it_can_be() -> None:
    ended = threading.Event()
    mine = Agent()

    @mine.task("slow")
    def slow(ctx: TaskContext) -> None:
        while not ctx.cancelled:
            time.sleep(0.01)
        ended.set()

    run = await run_task(mine, "slow", timeout_seconds=0.1)
    assert run.outcome is Outcome.TIMED_OUT
    assert ended.wait(5)


async def test_params_may_be_of_any_type_that_json_can_say() -> None:
    mine = Agent()

    @mine.task("typed")
    async def typed(_ctx: TaskContext, day: dt.date, copy: bool = False, *, model_config: int = 1) -> str:  # noqa: FBT001, FBT002
        return f"{day.year} {copy} {model_config}"

    run = await run_task(mine, "typed", {"day": "2026-11-24", "copy": True})
    assert run.result == "2026 True 1"


async def test_a_handler_that_the_worker_cannot_run_is_not_offered() -> None:
    with pytest.raises(LookupError, match="does not run here"):
        await run_task(agent, "camera.snapshot", {"url": "x"}, capabilities={"network_access": False})


@pytest.mark.parametrize("name", ["noop", "Camera", "a b", ""])
def test_a_wrong_or_built_in_name_is_refused(name: str) -> None:
    with pytest.raises(PluginError):
        Agent().task(name)(fails)


def test_two_handlers_of_one_name_are_refused_within_an_agent_and_between_two() -> None:
    one, two = Agent(), Agent()
    one.task("same")(fails)
    two.task("same", requires={"docker": True})(fails)
    with pytest.raises(PluginError, match="same is the name of two handlers"):
        one.task("same")(fails)
    with pytest.raises(PluginError, match="same is the name of two handlers"):
        Registry.of([*two.handlers.values(), *one.handlers.values()])


def test_a_function_that_cannot_be_called_by_names_is_refused() -> None:
    with pytest.raises(PluginError, match="first parameter"):
        Agent().task("a")(lambda: None)
    with pytest.raises(PluginError, match="named ones"):
        Agent().task("a")(lambda ctx, *rest: (ctx, rest))


def test_a_requirement_that_is_none_is_refused() -> None:
    with pytest.raises(PluginError, match=r"a: requires.docker"):
        Agent().task("a", requires={"docker": [1]})(fails)


def test_every_registers_a_task_of_its_own() -> None:
    mine = Agent()

    @mine.every(minutes=5)
    async def disk(_ctx: TaskContext) -> None: ...

    assert (mine.timers[0].kind, mine.timers[0].seconds) == ("disk", 300)
    assert "disk" in mine.handlers
    with pytest.raises(PluginError, match="expected more than none"):
        mine.every()


def test_plugins_are_found_beside_the_settings_and_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "holdfast_site_a.py").write_text("from edge_agent import Agent\nagent = Agent()\nsame = agent\n")
    (tmp_path / "holdfast_site_b.py").write_text("from holdfast_site_a import agent\n")
    (tmp_path / "holdfast_site_c.py").write_text("1 / 0\n")
    assert len(load(["holdfast_site_a", "holdfast_site_b"])) == 1
    with pytest.raises(PluginError, match=r"WORKER_PLUGINS is 'holdfast_site_c': .*ZeroDivisionError"):
        load(["holdfast_site_c"])
