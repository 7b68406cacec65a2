"""What people do to tasks by the API: cancel, retry, resolve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from broker.messages import Cancel, Outcome, TaskFinished

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub, Shape


async def ask(hub: RunningHub, task: str, verb: str, status: int = 200, **body: Any) -> Shape:  # noqa: ANN401
    answer = await hub.http.post(f"/api/tasks/{task}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    shape: Shape = answer.json()
    return shape


async def unknown_task(world: World, hub: RunningHub) -> tuple[str, int]:
    """Lose a worker with a task that may not run twice; return its journal."""
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        await worker.accept(await worker.next_assignment())
        worker.die()
    await hub.task("t1", state="unknown")
    return worker.stream, worker.reported


async def test_what_nobody_has_is_cancelled_at_once(world: World, hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop"})
    waiting = asyncio.create_task(hub.ended("t1"))
    task = await ask(hub, "t1", "cancel", reason="no need")
    assert (task["state"], task["error"], task["worker"]) == ("cancelled", "cancelled: no need", None)
    assert task["cancel_requested_at"] == task["finished_at"]
    assert [(step["event"], step.get("reason")) for step in task["timeline"]] == [
        ("created", None),
        ("cancel", "no need"),
        ("cancelled", None),
    ]
    assert (await waiting)["state"] == "cancelled"
    async with world.worker() as worker:
        await hub.deadlines_passed()
        assert worker.tasks.empty()


async def test_what_runs_is_cancelled_when_its_worker_says_so(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "retry": {"max_attempts": 3}})
        one = await worker.next_assignment()
        await worker.accept(one)
        task = await ask(hub, "t1", "cancel", reason="no need")
        assert (task["state"], task["reason"]) == ("running", "cancelling: no need")
        cancel = await worker.next_control(Cancel)
        assert (cancel.task, cancel.attempt, cancel.reason) == ("t1", 1, "cancelling: no need")
        await worker.finish(one, Outcome.CANCELLED)
        task = await hub.ended("t1")
    assert (task["state"], task["worker"], len(task["attempts"])) == ("cancelled", "w1", 1)


async def test_a_cancel_that_was_lost_is_said_again_with_the_next_heartbeat_and_hello(
    world: World, hub: RunningHub
) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.accept(one)
        await ask(hub, "t1", "cancel")
        for _ in range(2):
            assert (await worker.next_control(Cancel)).task == "t1"
            await worker.beat(held=(one,))
        sync = await worker.hello(held=[{"task": "t1", "attempt": 1}])
        assert [ref.task for ref in sync.drop] == ["t1"]


async def test_what_is_accepted_after_it_was_cancelled_is_stopped(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await ask(hub, "t1", "cancel")
        await worker.next_control(Cancel)  # too early: the worker did not have it yet
        await worker.accept(one)
        cancel = await worker.next_control(Cancel)
        assert (cancel.task, cancel.reason) == ("t1", "cancelling")


async def test_what_is_cancelled_and_never_accepted_is_not_sent_again(world: World) -> None:
    async with world.hub(accept_timeout_seconds=0.3) as hub, world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        await worker.next_assignment()
        await ask(hub, "t1", "cancel")
        task = await hub.ended("t1")
        assert (task["state"], task["error"]) == ("cancelled", "cancelled: w1 did not accept it in 0.3 s")
        assert worker.tasks.empty()


@pytest.mark.parametrize(("idempotent", "state"), [(True, "cancelled"), (False, "unknown")])
async def test_what_is_cancelled_at_a_worker_that_is_lost_does_not_go_elsewhere(
    world: World,
    idempotent: bool,  # noqa: FBT001
    state: str,
) -> None:
    async with world.hub(lost_after_seconds=0.3) as hub, world.worker("w2") as other:
        async with world.worker() as worker:
            await hub.post({"id": "t1", "kind": "noop", "worker": "w1", "idempotent": idempotent})
            await worker.accept(await worker.next_assignment())
            await ask(hub, "t1", "cancel")
            worker.die()
        task = await hub.task("t1", state=state)
        assert (task["error"] or task["reason"]).startswith(
            "cancelled: w1 is offline" if idempotent else "w1 is offline: connection_lost; to be cancelled"
        )
        assert other.tasks.empty()


async def test_what_is_cancelled_while_its_worker_is_away_is_stopped_when_that_is_back(
    world: World, hub: RunningHub
) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.accept(one)
        worker.die()
    await hub.worker("w1", state="offline")
    task = await ask(hub, "t1", "cancel", reason="no need")
    assert (task["state"], task["reason"]) == ("running", "cancelling: no need")
    async with world.worker(greets=False, stream=worker.stream, reported=worker.reported) as back:
        sync = await back.hello(held=[{"task": "t1", "attempt": 1}])
        assert [ref.task for ref in sync.drop] == ["t1"]
        await back.finish(one, Outcome.CANCELLED)
        task = await hub.ended("t1")
    assert (task["state"], task["worker"], len(task["attempts"])) == ("cancelled", "w1", 1)


async def test_what_was_sent_and_is_cancelled_while_its_worker_is_away_is_not_sent_again(
    world: World, hub: RunningHub
) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.next_assignment()
        worker.die()
    await hub.worker("w1", state="offline")
    await ask(hub, "t1", "cancel")
    async with world.worker(greets=False, stream=worker.stream) as back:
        sync = await back.hello()
        assert (sync.send, sync.drop) == ((), ())


async def test_what_ended_cannot_be_cancelled(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.run(await worker.next_assignment())
        await hub.ended("t1")
    problem = await ask(hub, "t1", "cancel", 409)
    assert (problem["status"], problem["state"], problem["possible"]) == (409, "succeeded", [])
    assert problem["detail"].startswith("task t1 is succeeded: cancel is for one that is")
    problem = await ask(hub, "t1", "retry", 409)
    assert problem["problems"][0]["value"] == '"succeeded"'


async def test_a_failed_task_is_tried_again_on_request(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        await worker.finish(await worker.next_assignment(), Outcome.FAILED)
        await hub.ended("t1")
        task = await ask(hub, "t1", "retry", reason="the door was open")
        assert task["finished_at"] is None
        again = await worker.next_assignment()
        assert again.attempt == 2
        await worker.run(again)
        task = await hub.ended("t1")
    assert (task["state"], task["attempt"]) == ("succeeded", 2)
    assert [attempt["state"] for attempt in task["attempts"]] == ["failed", "succeeded"]
    assert ("retry", "the door was open") in [(step["event"], step.get("reason")) for step in task["timeline"]]


async def test_an_unknown_task_is_resolved_by_a_person(world: World) -> None:
    async with world.hub(lost_after_seconds=0.2) as hub:
        stream, reported = await unknown_task(world, hub)
        assert (await ask(hub, "t1", "cancel"))["state"] == "unknown"
        task = await ask(hub, "t1", "resolve", outcome="succeeded", result={"door": "closed"}, note="looked at it")
        assert (task["state"], task["result"], task["worker"]) == ("succeeded", {"door": "closed"}, None)
        step = next(step for step in task["timeline"] if step["event"] == "resolve")
        assert (step["outcome"], step["note"]) == ("succeeded", "looked at it")
        async with world.worker(greets=False, stream=stream, reported=reported) as back:
            sync = await back.hello(held=[{"task": "t1", "attempt": 1}])
            assert [ref.task for ref in sync.drop] == ["t1"]


@pytest.mark.parametrize(("outcome", "state"), [(Outcome.FAILED, "failed"), (Outcome.CANCELLED, "succeeded")])
async def test_a_real_end_counts_more_than_what_a_person_said(world: World, outcome: Outcome, state: str) -> None:
    async with world.hub(lost_after_seconds=0.2) as hub:
        stream, reported = await unknown_task(world, hub)
        await ask(hub, "t1", "resolve", outcome="succeeded")
        async with world.worker(stream=stream, reported=reported) as back:
            await back.report(TaskFinished(at=now_ms(), task="t1", attempt=1, outcome=outcome))
        task = await hub.get("/api/tasks/t1")
    assert task["state"] == state
    assert task["attempts"][0]["superseded"] is (outcome is Outcome.CANCELLED)


async def test_who_asked_by_mqtt_hears_of_an_end_by_a_person(world: World, hub: RunningHub) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop"}, asks=True, correlation=b"hi")
        await hub.task("t1", state="pending")
        await ask(hub, "t1", "cancel", reason="no need")
        answer = await asker.answer()
    assert (answer["task"], answer["outcome"], answer["error"], answer["correlation"]) == (
        "t1",
        "cancelled",
        "cancelled: no need",
        b"hi",
    )


async def test_what_was_asked_outlives_the_hub(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.hub() as hub:
            await worker.hello()
            await hub.post({"id": "t1", "kind": "noop"})
            one = await worker.next_assignment()
            await worker.accept(one)
            await ask(hub, "t1", "cancel")
        async with world.hub():
            sync = await worker.hello(held=[{"task": "t1", "attempt": 1}])
            assert [ref.task for ref in sync.drop] == ["t1"]


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("cancel", b'{"why": "x"}', "why"),
        ("cancel", b'{"reason": 5}', "reason"),
        ("retry", b"[]", "body"),
        ("resolve", b"", "outcome"),
        ("resolve", b'{"outcome": "expired"}', "outcome"),
        ("resolve", b'{"outcome": "failed", "note": ""}', "note"),
    ],
)
async def test_a_body_that_is_none_names_the_field(hub: RunningHub, verb: str, body: bytes, field: str) -> None:
    await hub.post({"id": "t1", "kind": "noop"})
    answer = await hub.http.post(f"/api/tasks/t1/{verb}", content=body)
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["field"] == field
    assert (await hub.get("/api/tasks/t1"))["state"] == "pending"


async def test_no_body_is_enough_and_no_task_is_not_found(hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop"})
    assert (await hub.http.post("/api/tasks/t1/cancel")).json()["error"] == "cancelled"
    assert (await hub.http.post("/api/tasks/t1/retry")).json()["state"] == "pending"
    assert (await hub.http.post("/api/tasks/t2/retry")).status_code == 404
