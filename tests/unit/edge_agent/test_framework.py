"""Handlers: how they are registered, validated, and run without a broker."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import threading
import time
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from broker.errors import InvalidInput
from broker.messages import Bound, Outcome
from edge_agent import Agent, TaskContext
from edge_agent.errors import PluginError
from edge_agent.executors import Registry, thread
from edge_agent.testing import run_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

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


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Zone(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    size: Annotated[int, Field(ge=1, le=10)] = 1


@agent.task("typed")
async def typed(  # noqa: PLR0917  params have names, whatever a function allows
    _ctx: TaskContext,
    zones: list[Zone],
    colour: Colour,
    when: dt.datetime | None = None,
    pause: dt.timedelta = dt.timedelta(seconds=1),
    percent: Annotated[float, Field(ge=0, le=100)] = 50.0,
    either: int | str = 1,
    tags: frozenset[str] = frozenset(),
) -> list[Any]:
    sizes = ", ".join(f"{zone.name} {zone.size}" for zone in zones)
    shown = when.isoformat() if when else "None"
    return [sizes, colour.name, shown, pause.total_seconds(), percent, either, sorted(tags)]


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
    ("params", "line"),
    [
        ({"zones": [{"name": "a"}, {"size": 1}]}, "params.zones[1].name is missing: expected a value"),
        ({"zones": [{"name": "a", "size": 11}]}, "params.zones[0].size is 11: expected a whole number up to 10"),
        ({"zones": [{"name": "a", "sise": 1}]}, "params.zones[0].sise is 1: there is no such field"),
        ({"zones": None}, "params.zones is null: expected an array"),
        ({"colour": "green"}, "params.colour is \"green\": expected 'red' or 'blue'"),
        ({"when": "soon"}, 'params.when is "soon": expected a time, as in 2026-12-01T08:00:00Z'),
        ({"pause": 5}, "params.pause is 5: expected a duration, as in PT1H30M"),
        ({"percent": 101}, "params.percent is 101: expected a number up to 100"),
        ({"percent": "5"}, 'params.percent is "5": expected a number'),
        ({"either": [1]}, "params.either is [1]: expected a whole number or a text"),
        ({"either": None, "percent": -1}, "params.percent is -1: expected a number from 0; params.either is null: exp"),
        ({"tags": ["a", 1]}, "params.tags[1] is 1: expected a text"),
    ],
)
async def test_params_of_every_kind_are_explained_by_place(params: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await run_task(agent, "typed", {"zones": [{"name": "a"}], "colour": "red", **params})
    assert str(raised.value).startswith(line)


async def test_params_come_as_what_they_are_annotated_as() -> None:
    given: dict[str, Any] = {
        "zones": [{"name": "a", "size": 2}, {"name": "b"}],
        "colour": "blue",
        "when": "2026-11-24T10:00:00Z",
        "pause": "PT1M30S",
        "percent": 5,
        "either": "x",
        "tags": ["b", "a"],
    }
    run = await run_task(agent, "typed", given)
    assert run.result == ["a 2, b 1", "BLUE", "2026-11-24T10:00:00+00:00", 90, 5.0, "x", ["a", "b"]]
    plain = await run_task(agent, "typed", {"zones": [], "colour": "red"})
    assert plain.result == ["", "RED", "None", 1, 50.0, 1, []]


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
    ended.clear()
    run = await run_task(mine, "slow", cancel_after=0)
    assert (run.outcome, run.error) == (Outcome.CANCELLED, "cancelled")
    assert ended.wait(5)


async def test_a_thread_that_does_not_look_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "THREAD_GRACE_SECONDS", 0.1)
    release = threading.Event()
    mine = Agent()

    @mine.task("deaf")
    def deaf(_ctx: TaskContext) -> None:
        release.wait(30)

    ended = asyncio.Event()
    mine.handlers["deaf"].on_ended = ended.set
    run = await run_task(mine, "deaf", cancel_after=0)
    assert run.outcome is Outcome.CANCELLED
    assert mine.handlers["deaf"].left_behind == 1
    release.set()
    await asyncio.wait_for(ended.wait(), 10)
    assert mine.handlers["deaf"].left_behind == 0


async def test_a_coroutine_is_cancelled_where_it_waits_and_may_clean_up() -> None:
    mine = Agent()

    @mine.task("waits")
    async def waits(ctx: TaskContext, how: Literal["clean", "finish"]) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ctx.output(f"cancelled: {ctx.cancelled}")
            await ctx.progress(1, "cleaned up")
            if how == "clean":
                raise
        return "it was done all the same"

    run = await run_task(mine, "waits", {"how": "clean"}, cancel_after=0)
    assert (run.outcome, run.error, run.output) == (Outcome.CANCELLED, "cancelled", "cancelled: True")
    assert run.progress[0].message == "cleaned up"
    run = await run_task(mine, "waits", {"how": "clean"}, timeout_seconds=0.05)
    assert (run.outcome, run.error) == (Outcome.TIMED_OUT, "not done within 0.05 s")
    run = await run_task(mine, "waits", {"how": "finish"}, cancel_after=0)
    assert (run.outcome, run.result) == (Outcome.SUCCEEDED, "it was done all the same")


async def test_what_has_ended_is_not_cancelled_any_more() -> None:
    run = await run_task(agent, "blocking", {"json": {}}, cancel_after=60)
    assert run.outcome is Outcome.SUCCEEDED


async def test_output_is_what_was_written_in_its_order() -> None:
    mine = Agent()

    @mine.task("writes")
    def writes(ctx: TaskContext) -> None:
        ctx.output("one ")
        ctx.output(b"two \xff")

    assert (await run_task(mine, "writes")).output == "one two \ufffd"


@pytest.mark.parametrize(
    ("tell", "error"),
    [
        (lambda ctx: ctx.progress(1.5), "ValueError: progress.fraction is 1.5: expected a number up to 1"),
        (lambda ctx: ctx.progress(float("nan")), "ValueError: progress.fraction is NaN: expected "),
        (lambda ctx: ctx.fact("", "a", 1), 'ValueError: fact.subject is "": expected at least 1 characters'),
        (lambda ctx: ctx.fact("a", "b", object()), "ValueError: fact.value is <object object at "),
    ],
)
async def test_what_cannot_be_told_is_named(tell: Callable[[TaskContext], object], error: str) -> None:
    mine = Agent()

    @mine.task("tells")
    async def tells(ctx: TaskContext) -> None:
        tell(ctx)

    run = await run_task(mine, "tells")
    assert run.outcome is Outcome.FAILED
    assert (run.error or "").startswith(error)
    assert "\n" not in (run.error or "")


async def test_the_handler_sees_its_time_limit() -> None:
    mine = Agent()

    @mine.task("limit")
    async def limit(ctx: TaskContext) -> float | None:
        return ctx.timeout_seconds

    assert (await run_task(mine, "limit", timeout_seconds=7)).result == 7
    assert (await run_task(mine, "limit")).result is None


async def test_an_async_function_is_one_in_a_plain_wrapper_too() -> None:
    mine = Agent()

    async def hello(_ctx: TaskContext, name: str) -> str:
        await asyncio.sleep(0)
        return f"hello {name}"

    @mine.task("wrapped")
    @functools.wraps(hello)
    def wrapper(ctx: TaskContext, name: str) -> Awaitable[str]:
        return hello(ctx, name)

    assert (await run_task(mine, "wrapped", {"name": "you"})).result == "hello you"


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
    with pytest.raises(PluginError, match="first parameter"):

        @Agent().task("a")
        def by_name_alone(*, ctx: TaskContext) -> None: ...

    with pytest.raises(PluginError, match="named ones"):
        Agent().task("a")(lambda ctx, *rest: (ctx, rest))
    with pytest.raises(PluginError, match="cannot be understood"):
        Agent().task("a")(functools.partial(fails, how="nan"))


def test_a_function_that_yields_is_refused() -> None:
    def yields(_ctx: TaskContext) -> Iterator[int]:
        yield 1

    async def yields_later(_ctx: TaskContext) -> AsyncIterator[int]:
        yield 1

    for function in (yields, yields_later):
        with pytest.raises(PluginError, match="a: the function yields: expected one that returns its result, once"):
            Agent().task("a")(function)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_concurrency_that_is_none_is_refused(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(PluginError, match=r"a: concurrency is .*: expected a whole number from 1"):
        Agent().task("a", concurrency=wrong)(fails)


def test_a_concurrency_is_known_by_kind() -> None:
    mine = Agent()
    mine.task("one", concurrency=1)(fails)
    mine.task("any")(fails)
    assert Registry.of(mine.handlers.values()).concurrency == {"one": 1}


async def test_a_policy_holds_in_a_test_too() -> None:
    with pytest.raises(LookupError, match="WORKER_ALLOW_COMMANDS does not allow 'false'"):
        await run_task(agent, "command", {"argv": ["false"]}, allow_commands=["true"])


def test_a_requirement_that_is_none_is_refused() -> None:
    with pytest.raises(PluginError, match=r"a: requires.docker"):
        Agent().task("a", requires={"docker": [1]})(fails)
    with pytest.raises(PluginError, match="a: requires is no JSON"):
        Agent().task("a", requires={"docker": object()})(fails)


def test_a_requirement_is_written_as_in_a_task() -> None:
    mine = Agent()
    requires = {"arch": {"in": ["amd64", "arm64"]}, "memory_mb": {"min": 512}, "docker": True}
    mine.task("a", requires=requires)(fails)
    assert mine.handlers["a"].requires == {
        "arch": Bound.model_validate({"in": ("amd64", "arm64")}),
        "memory_mb": Bound(min=512),
        "docker": True,
    }


def test_every_registers_a_task_of_its_own() -> None:
    mine = Agent()

    @mine.every(minutes=5)
    async def disk(_ctx: TaskContext) -> None: ...

    assert (mine.timers[0].kind, mine.timers[0].seconds) == ("disk", 300)
    assert "disk" in mine.handlers
    with pytest.raises(PluginError, match="expected more than none"):
        mine.every()
