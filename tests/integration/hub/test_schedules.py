"""Schedules at the hub: who may put what, who is to have it, and who has it; with scripted workers and a real agent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from broker.messages import MAX_JOB_BYTES, NO_REVISION, Schedules, ScheduleSkipped
from edge_agent import connecting
from edge_agent.app import App
from edge_agent.rules.transport import Limits
from edge_agent.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub, Shape
    from tests.support.workers import ScriptedWorker

pytestmark = pytest.mark.anyio

DAILY: dict[str, Any] = {"cron": "0 3 * * *", "task": {"kind": "noop"}}


async def put(hub: RunningHub, name: str, body: object, status: int = 201) -> Shape:
    answer = await hub.http.put(f"/api/schedules/{name}", json=body)
    assert answer.status_code == status, answer.text
    shape: Shape = answer.json()
    return shape


async def delete(hub: RunningHub, name: str) -> httpx.Response:
    return await hub.http.delete(f"/api/schedules/{name}")


async def take(worker: ScriptedWorker) -> Schedules:
    """Take the next set that the worker is sent, as an agent does."""
    order = await worker.next_control(Schedules)
    await worker.hello(schedules=order.revision)
    return order


async def test_a_schedule_is_shown_as_it_was_put_with_every_default(hub: RunningHub) -> None:
    shown = await put(hub, "backup", {**DAILY, "site": "site-a", "start": "2026-12-01T00:00:00Z"})

    assert shown["name"] == "backup"
    assert (shown["cron"], shown["timezone"], shown["misfire"], shown["overlap"]) == (
        "0 3 * * *",
        "UTC",
        "skip",
        "skip",
    )
    assert (shown["site"], shown["worker"], shown["start"]) == ("site-a", None, "2026-12-01T00:00:00Z")
    assert shown["task"]["kind"] == "noop"
    assert (shown["concerns"], shown["taken_by"], shown["workers"]) == (0, 0, [])
    listed = (await hub.get("/api/schedules"))["items"]
    assert listed == [{key: value for key, value in shown.items() if key != "workers"}]
    assert await hub.get("/api/schedules/backup") == shown


async def test_what_is_put_again_is_known_and_what_is_changed_is_changed(hub: RunningHub) -> None:
    first = await put(hub, "backup", DAILY)

    assert await put(hub, "backup", {**DAILY, "name": "backup"}, 200) == first
    changed = await put(hub, "backup", {**DAILY, "cron": "0 4 * * *"}, 200)
    assert changed["cron"] == "0 4 * * *"
    assert changed["created_at"] == first["created_at"]
    assert changed["changed_at"] >= first["changed_at"]


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("j", {"task": {"kind": "noop"}}, "every_seconds is null: expected either cron or every_seconds, and not both"),
        ("j", {**DAILY, "cron": "0 25 * * *"}, 'cron is "0 25 * * *": expected an hour from 0 to 23'),
        ("j", {**DAILY, "overlap": "wait"}, "overlap is \"wait\": expected 'skip', 'queue' or 'replace'"),
        ("j", {**DAILY, "task": {"kind": "noop", "retries": 3}}, "task.retries is 3: there is no such field"),
        ("j", {**DAILY, "task": {"kind": "nop"}}, 'task.kind is "nop": expected a kind that some worker runs'),
        ("j", {**DAILY, "task": {"kind": "noop", "target": "all"}}, 'expected a task whose target is "one"'),
        ("j", {**DAILY, "name": "k"}, 'name is "k": expected the name in the path, "j"'),
        ("J", DAILY, 'name is "J": expected a text that matches'),
        ("j", {**DAILY, "worker": "W 1"}, 'worker is "W 1": expected'),
        ("j", [], "body is []: expected an object"),
        ("j", b"{", "body is"),
    ],
)
async def test_a_wrong_schedule_is_refused_with_field_and_value_and_reaches_nobody(
    world: World, hub: RunningHub, name: str, body: object, problem: str
) -> None:
    async with world.worker() as worker:
        content: Any = body if isinstance(body, bytes) else None
        answer = await hub.http.put(f"/api/schedules/{name}", json=None if content else body, content=content)
        await worker.hello()

    assert answer.status_code == 422
    assert problem in answer.json()["detail"]
    assert (await hub.get("/api/schedules"))["items"] == []
    assert worker.control.empty()


async def test_a_body_that_is_too_large_is_refused_and_so_is_more_than_a_message_carries(
    world: World, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {**DAILY, "task": {"kind": "noop", "params": {"text": "x" * MAX_JOB_BYTES}}}
    assert (await hub.http.put("/api/schedules/j", json=long)).status_code == 413

    monkeypatch.setattr("hub.schedules.MAX_SET_BYTES", 600)
    async with world.worker() as worker:
        await put(hub, "one", DAILY)
        await take(worker)
        answer = await hub.http.put("/api/schedules/two", json={**DAILY, "requires": {"room": "x" * 300}})
        assert answer.status_code == 422
        assert "bytes for w1: expected at most 600 in all" in answer.json()["detail"]
        long = {**DAILY, "site": "site-b", "requires": {"room": "x" * 150}}
        refused = await put(hub, "elsewhere", long, 422)
        assert "bytes for a worker of site-b: expected" in refused["detail"], "who comes there could not have it"
        await delete(hub, "one")
        await put(hub, "elsewhere", long)


async def test_there_is_none_of_a_name_that_was_never_put(hub: RunningHub) -> None:
    assert (await hub.http.get("/api/schedules/nobody")).status_code == 404
    assert (await delete(hub, "nobody")).status_code == 404


async def test_a_worker_gets_all_that_concerns_it_after_its_hello_and_at_each_change(
    world: World, hub: RunningHub
) -> None:
    await put(hub, "everywhere", DAILY)
    await put(hub, "here", {**DAILY, "site": "site-a"})
    await put(hub, "there", {**DAILY, "site": "site-b"})
    await put(hub, "off", {**DAILY, "enabled": False})
    async with world.worker() as worker:
        order = await take(worker)
        assert [job.name for job in order.jobs] == ["everywhere", "here"]

        await put(hub, "mine", {**DAILY, "worker": "w1"})
        assert [job.name for job in (await take(worker)).jobs] == ["everywhere", "here", "mine"]
        assert (await delete(hub, "here")).status_code == 204
        assert [job.name for job in (await take(worker)).jobs] == ["everywhere", "mine"]
        for name in ("everywhere", "mine"):
            await delete(hub, name)
            order = await take(worker)
        assert (order.revision, order.jobs) == (NO_REVISION, ())
        await put(hub, "there", {**DAILY, "site": "site-c"}, 200)
        await worker.hello(schedules=NO_REVISION)
        assert worker.control.empty()


async def test_it_shows_who_has_taken_it_and_who_is_behind_or_rests(world: World, hub: RunningHub) -> None:
    async with world.worker("w1") as one, world.worker("w2", capabilities={"docker": True}):
        await put(hub, "j", {**DAILY, "requires": {"docker": True}})
        await take(one)
        await hub.worker("w1")
        shown = await hub.get("/api/schedules/j")

    assert (shown["concerns"], shown["taken_by"]) == (2, 1)
    assert [(worker["id"], worker["taken"], worker["rests"]) for worker in shown["workers"]] == [
        ("w1", True, "docker is missing, expected true"),
        ("w2", False, None),
    ]


async def test_a_hub_that_starts_again_knows_its_schedules_and_who_has_them(world: World) -> None:
    async with world.hub() as hub, world.worker() as worker:
        await put(hub, "j", DAILY)
        order = await take(worker)
    async with world.hub() as hub:
        assert (await hub.get("/api/schedules/j"))["taken_by"] == 1
        async with world.worker(greets=False) as worker:
            await worker.hello(schedules=order.revision)
            await delete(hub, "j")
            assert (await take(worker)).jobs == ()


async def test_a_change_while_a_worker_was_away_reaches_it_when_it_is_back(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await put(hub, "j", DAILY)
        order = await take(worker)
    await delete(hub, "j")
    async with world.worker(greets=False) as worker:
        await worker.hello(schedules=order.revision)
        assert (await take(worker)).jobs == ()


async def test_a_firing_that_was_skipped_is_listed(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        skip = ScheduleSkipped(at=1000, job="hub:j", planned_from=0, planned_to=3_600_000, reason="why")
        await worker.report(skip)
        shown = (await hub.get("/api/skips", worker="w1"))["items"]

    (one,) = shown
    assert (one["worker"], one["site"], one["job"], one["reason"]) == ("w1", "site-a", "hub:j", "why")
    assert (one["planned_from"], one["planned_to"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T01:00:00.000Z")
    assert (await hub.get("/api/skips", worker="w2"))["items"] == []


# -- with a real agent ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def agent(world: World, hub: RunningHub, broker_url: str) -> AsyncIterator[App]:
    settings = WorkerSettings(
        id="w1",
        site="site-a",
        root=world.topics.root,
        broker_url=broker_url,
        control_plane_url=str(hub.http.base_url),
        poll_interval_seconds=0.1,
        offline_dir=world.directory / "w1",
        stop_seconds=0.5,
    )
    app = App(settings)
    app.open()
    task = asyncio.create_task(app.run())
    try:
        yield app
    finally:
        app.stop()
        await task


@pytest.mark.parametrize("transport", ["mqtt", "http"])
async def test_a_schedule_that_is_put_fires_at_a_real_agent_and_its_tasks_are_known(
    world: World, hub: RunningHub, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setattr(connecting, "Limits", partial(Limits, patience_seconds=0.5, try_seconds=0.5))
    url = world.broker_url if transport == "mqtt" else "mqtt://127.0.0.1:1"
    async with agent(world, hub, url):
        await hub.worker("w1", state="online", transport=transport)
        await put(hub, "tick", {"every_seconds": 1, "task": {"kind": "noop", "params": {"n": 1}}})

        async def look() -> Shape | None:
            tasks = (await hub.get("/api/tasks", worker="w1", state="succeeded"))["items"]
            return tasks[0] if tasks else None

        task = await hub.until(look)
        assert (await hub.get("/api/schedules/tick"))["taken_by"] == 1

    assert task["id"].startswith("hub:tick:")
    assert task["id"].endswith(":w1")
    assert (task["worker"], task["site"], task["result"]) == ("w1", "site-a", {"n": 1})
    assert task["labels"] == {"schedule": "hub:tick"}
