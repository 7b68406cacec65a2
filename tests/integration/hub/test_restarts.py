"""Hubs and brokers that go and come back: nothing that was reported is lost, nothing runs twice for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from broker.clock import now_ms
from broker.local import PrivateBroker
from broker.messages import FactObserved, Outcome, TaskFinished
from tests.support.hubs import running_hub, settings_for
from tests.support.programs import House
from tests.support.workers import scripted_worker, soon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.hub.conftest import World


@pytest.fixture
def own_broker() -> Iterator[PrivateBroker]:
    """A broker that a test may stop."""
    with PrivateBroker() as running:
        yield running


async def test_a_restart_keeps_everything(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.hub() as hub:
            await worker.hello()
            await hub.post({"id": "ended", "kind": "noop"})
            await worker.run(await worker.next_assignment())
            await hub.post({"id": "waits", "kind": "noop", "site": "site-z"})
            async with world.asker() as asker:
                await asker.inject(world.site_topic(), b"nonsense", asks=True)
                await asker.inject(world.site_topic("site-q"), b"nonsense", asks=True)
                await asker.answer()
            before = [await hub.get(path) for path in ("/api/tasks/ended", "/api/tasks/waits", "/api/rejections")]
        async with world.hub() as hub:
            after = [await hub.get(path) for path in ("/api/tasks/ended", "/api/tasks/waits", "/api/rejections")]
            assert after == before
            sync = await worker.hello()
            assert sync.committed_through == worker.reported


async def test_a_restart_goes_on_with_what_runs(world: World) -> None:
    async with world.worker(slots=1, greets=False) as worker:
        async with world.hub() as hub:
            await worker.hello()
            await hub.post({"id": "runs", "kind": "noop"})
            one = await worker.next_assignment()
            await worker.accept(one)
            await hub.post({"id": "next", "kind": "noop"})
        async with world.hub() as hub:
            await hub.deadlines_passed()
            await worker.hello(held=[{"task": "runs", "attempt": 1}])
            await hub.deadlines_passed()
            shown = await hub.get("/api/workers/w1")
            assert (shown["state"], shown["in_flight"]) == ("online", 1)
            assert (await hub.get("/api/tasks/runs"))["state"] == "running"
            assert (await hub.get("/api/tasks/next"))["state"] == "pending"
            await worker.finish(one)
            task = await hub.ended("runs")
            assert (task["state"], len(task["attempts"])) == ("succeeded", 1)
            assert (await worker.next_assignment()).id == "next"


async def test_a_hello_that_was_said_to_an_earlier_hub_takes_nothing_back(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.hub() as hub:
            await worker.hello()  # retained: it tells the next hub that nothing is held
            await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
            one = await worker.next_assignment()
            await worker.accept(one)
        async with world.hub() as hub:
            assert (await hub.worker("w1", reason="stale_retained"))["state"] == "suspect"
            await worker.report(FactObserved(at=1, subject="s", name="n", value=1))
            await hub.deadlines_passed()
            assert (await hub.get("/api/tasks/t1"))["state"] == "running"


async def test_what_was_assigned_and_not_accepted_before_a_restart_is_seen_to(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.hub() as hub:
            await worker.hello()
            await hub.post({"id": "t1", "kind": "noop"})
            await worker.next_assignment()
        async with world.hub(accept_timeout_seconds=0.3):
            await worker.hello()
            assert (await worker.next_assignment()).attempt == 2


async def test_what_is_published_while_the_hub_is_away_is_kept_for_it(world: World) -> None:
    async with world.worker(greets=False) as worker, world.asker() as asker:
        async with world.hub() as hub:
            await worker.hello()
            await hub.post({"id": "t1", "kind": "noop"})
            one = await worker.next_assignment()
            await worker.accept(one)
        finished = TaskFinished(at=now_ms(), task="t1", attempt=1, outcome=Outcome.SUCCEEDED, result="done meanwhile")
        await worker.send(worker.reported + 1, finished)
        await asker.inject(world.site_topic("site-z"), {"id": "t2", "kind": "noop"})
        await asker.inject(world.site_topic("site-z"), {"kind": "noop"})
        await asker.inject(world.site_topic("site-z"), b"nonsense")
        async with world.hub() as hub:
            assert (await hub.ended("t1"))["result"] == "done meanwhile"
            assert (await hub.task("t2"))["state"] == "pending"
            # without an id, and who was online then is not known: a worker or nobody answers for it
            assert len((await hub.get("/api/tasks"))["items"]) == 2


async def test_what_may_have_run_while_the_hub_was_away_waits_to_hear(world: World) -> None:
    async with world.worker(greets=False) as worker, world.asker() as asker:
        async with world.hub():
            await worker.hello()
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop", "idempotent": False})
        async with world.hub(accept_timeout_seconds=0.2) as hub:
            await hub.task("t1", reason="it may not run twice, and w1 may have it: waiting to hear")
            assert worker.tasks.empty()


async def test_the_hub_says_hello_and_farewell(world: World) -> None:
    status = f"{world.topics.root}/v1/hub/status"
    async with world.asker(status) as asker:
        async with world.hub():
            online = await asker.answer()
            assert online["state"] == "online"
        offline = await asker.answer()
        assert (offline["state"], offline["session"]) == ("offline", online["session"])


async def test_a_hub_that_is_killed_is_shown_offline_by_its_will(world: World, broker: PrivateBroker) -> None:
    status = f"{world.topics.root}/v1/hub/status"
    async with AsyncExitStack() as stack, world.asker(status) as asker:
        house = House(world.directory, broker, stack)
        hub = await house.hub(HUB_ROOT=world.topics.root, HUB_CLIENT_ID=f"hub-{world.topics.root}")
        online = await asker.answer()
        assert online["state"] == "online"
        await hub.program.kill()
        offline = await asker.answer()
        assert (offline["state"], offline["session"]) == ("offline", online["session"])
    async with world.asker(status) as later:
        assert (await later.answer())["state"] == "offline"  # retained


async def test_health_follows_the_broker(own_broker: PrivateBroker, tmp_path: Path) -> None:
    async with (
        running_hub(settings_for(own_broker.url, tmp_path)) as hub,
        scripted_worker(own_broker.url, hub.topics),
    ):
        assert (await hub.get("/health"))["status"] == "ok"
        own_broker.kill()
        await hub.worker("w1", reason="broker_restarted")
        health = await hub.get("/health")
        assert (health["status"], health["broker"], health["database"]) == ("degraded", "not connected", "ok")
        await hub.post({"id": "t1", "kind": "noop"})
        await asyncio.to_thread(own_broker.start)
        await soon(hub.connected())
        assert (await hub.get("/health"))["status"] == "ok"


async def test_a_broker_that_lost_everything_takes_nothing_with_it(own_broker: PrivateBroker, tmp_path: Path) -> None:
    async with running_hub(settings_for(own_broker.url, tmp_path)) as hub:
        async with scripted_worker(own_broker.url, hub.topics) as worker:
            await hub.post({"id": "t1", "kind": "noop"})
            one = await worker.next_assignment()
            await worker.accept(one)
            own_broker.kill()
            await hub.worker("w1", reason="broker_restarted")
            await hub.post({"id": "t2", "kind": "noop"})
            await asyncio.to_thread(own_broker.start)
            await soon(hub.connected())
        async with scripted_worker(
            own_broker.url, hub.topics, greets=False, stream=worker.stream, reported=worker.reported
        ) as back:
            await back.hello(held=[{"task": "t1", "attempt": 1}])
            assert (await back.next_assignment()).id == "t2"
            await back.finish(one)
            task = await hub.ended("t1")
            assert (task["state"], len(task["attempts"])) == ("succeeded", 1)


async def test_a_hub_with_no_broker_ends_when_it_is_told_to(tmp_path: Path, own_broker: PrivateBroker) -> None:
    own_broker.stop()
    async with asyncio.timeout(5), running_hub(settings_for(own_broker.url, tmp_path), linked=False) as hub:
        assert (await hub.get("/health"))["status"] == "degraded"


async def test_a_hub_whose_broker_hangs_ends_when_it_is_told_to(tmp_path: Path, own_broker: PrivateBroker) -> None:
    try:
        async with asyncio.timeout(5), running_hub(settings_for(own_broker.url, tmp_path)):
            os.kill(own_broker.pid, signal.SIGSTOP)
    finally:
        os.kill(own_broker.pid, signal.SIGCONT)


async def test_a_waiting_request_does_not_hold_up_the_end(world: World) -> None:
    async with asyncio.timeout(8), world.hub() as hub:
        await hub.post({"id": "t1", "kind": "noop"})
        waiting = asyncio.create_task(hub.http.get("/api/tasks/t1/wait", params={"timeout": 60}))
        await hub.get("/health")
        hub.hub.stop()
        await asyncio.wait([waiting])
        assert waiting.exception() or waiting.result().status_code >= 200


async def test_what_is_retained_on_a_topic_that_is_none_is_refused_once(world: World) -> None:
    async with world.asker() as asker:
        async with world.hub() as hub:
            topic = f"{world.topics.root}/v1/sites/Bad Site/tasks"
            await asker.inject(topic, {"kind": "noop"}, retain=True, asks=True)
            await asker.answer()
        async with world.hub() as hub:
            await asker.inject(world.site_topic(), {"id": "marker", "kind": "noop"})
            await hub.task("marker")
            assert [json.loads(one["payload"]) for one in await hub.rejections()] == [{"kind": "noop"}]
