"""Tasks for each matching worker: expanded into children, followed to their end, answered by one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from broker.messages import Cancel, Injected, Outcome, TaskDeclined, TaskRequest, TaskSpec, Via

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub, Shape
    from tests.support.workers import ScriptedWorker

ALL = {"kind": "noop", "target": "all"}
FOR_THE_HUB = 'target is "all", which is the hub\'s to expand'


@pytest.fixture
async def three(world: World, hub: RunningHub) -> AsyncIterator[list[ScriptedWorker]]:
    """Two workers at one site, the second with a GPU, and one at another, with one as well."""
    async with (
        world.worker("w1") as first,
        world.worker("w2", capabilities={"gpu": True}) as second,
        world.worker("w3", "site-b", capabilities={"gpu": True}) as third,
    ):
        for worker in (first, second, third):
            await hub.worker(worker.id, state="online")
        yield [first, second, third]


async def children(hub: RunningHub, parent: str = "p", **query: str) -> dict[str, Shape]:
    items = (await hub.get("/api/tasks", parent=parent, **query))["items"]
    return {item["worker"]: item for item in items}


async def ask(hub: RunningHub, task: str, verb: str, status: int = 200, **body: Any) -> Shape:  # noqa: ANN401
    answer = await hub.http.post(f"/api/tasks/{task}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    shape: Shape = answer.json()
    return shape


async def decline(worker: ScriptedWorker, body: Shape, task: str, via: Via = Via.SITE) -> None:
    """Decline a parent that was injected, as an agent does."""
    spec = TaskRequest.model_validate(body).spec()
    injected = Injected(spec=spec, via=via)
    await worker.report(TaskDeclined(at=now_ms(), task=task, attempt=1, reason=FOR_THE_HUB, injected=injected))


@pytest.mark.parametrize(
    ("where", "who"),
    [
        ({}, {"w1", "w2", "w3"}),
        ({"site": "site-a"}, {"w1", "w2"}),
        ({"requires": {"gpu": True}}, {"w2", "w3"}),
        ({"site": "site-a", "requires": {"gpu": False}}, {"w1"}),
        ({"worker": "w2"}, {"w2"}),
    ],
)
async def test_each_worker_that_matches_has_a_child_and_the_parent_ends_with_the_last(
    hub: RunningHub, three: list[ScriptedWorker], where: dict[str, object], who: set[str]
) -> None:
    await hub.post({"id": "p", **ALL, "params": {"n": 1}, "labels": {"team": "infra"}, "priority": 3, **where})
    chosen = [worker for worker in three if worker.id in who]
    for number, worker in enumerate(chosen):
        shown = await hub.task("p", state="running")
        counts = {name: count for name, count in shown["children"].items() if count}
        assert (counts["total"], counts.get("succeeded", 0)) == (len(who), number)
        one = await worker.next_assignment()
        assert (one.id, one.target, one.params, one.labels) == (f"p:{worker.id}", "one", {"n": 1}, {"team": "infra"})
        await worker.run(one)
    parent = await hub.ended("p")
    assert (parent["state"], parent["worker"] or None, parent["attempts"]) == ("succeeded", where.get("worker"), [])
    assert parent["result"] == {"succeeded": len(who), "children": dict.fromkeys(sorted(who), "succeeded")}
    assert parent["created_at"] <= parent["started_at"] <= parent["finished_at"]
    assert [step["event"] for step in parent["timeline"]] == ["created", "expanded", "succeeded"]
    assert parent["timeline"][1] == {"at": parent["started_at"], "event": "expanded", "children": len(who)}
    shown_children = await children(hub)
    assert {(one["parent"], one["target"], one["priority"]) for one in shown_children.values()} == {("p", "one", 3)}
    assert {name: one["site"] for name, one in shown_children.items()} == {one.id: one.site for one in chosen}
    assert all(worker.tasks.empty() for worker in three)


async def test_a_parent_that_nobody_matches_says_so_and_is_expanded_as_soon_as_somebody_does(
    world: World, hub: RunningHub
) -> None:
    task = await hub.post({"id": "p", **ALL, "requires": {"gpu": True}, "site": "site-a"})
    assert (task["state"], task["reason"]) == ("pending", "no worker at site-a is known")
    async with world.worker("w1"):
        shown = await hub.get("/api/tasks/p")
        assert (shown["state"], shown["reason"]) == ("pending", "no online worker at site-a has gpu")
        assert shown["children"]["total"] == 0
        async with world.worker("w2", capabilities={"gpu": True}) as able:
            await able.run(await able.next_assignment())
            assert (await hub.ended("p"))["result"] == {"succeeded": 1, "children": {"w2": "succeeded"}}


async def test_a_parent_that_nobody_ever_matches_expires_with_its_reason(hub: RunningHub) -> None:
    await hub.post({"id": "p", **ALL, "expires_in_seconds": 0.1})
    task = await hub.ended("p")
    assert (task["state"], task["error"]) == ("expired", "not started in time: no worker at any site is known")


async def test_a_worker_whose_link_is_down_has_a_child_too_and_a_stopped_one_has_none(
    world: World, hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    here, lost, stopped = three
    lost.die()
    await hub.worker("w2", state="offline")
    await stopped.farewell(stopped=True)
    await hub.worker("w3", state="offline")

    await hub.post({"id": "p", **ALL})
    await here.run(await here.next_assignment())
    waiting = await children(hub)
    assert set(waiting) == {"w1", "w2"}
    assert (waiting["w2"]["state"], waiting["w2"]["reason"]) == ("pending", "worker w2 is offline")
    assert (await hub.get("/api/tasks/p"))["state"] == "running"
    async with world.worker("w2", stream=lost.stream, reported=lost.reported) as back:
        await back.run(await back.next_assignment())
        assert (await hub.ended("p"))["state"] == "succeeded"


async def test_a_child_that_nobody_begins_expires_with_its_parent(hub: RunningHub, three: list[ScriptedWorker]) -> None:
    three[1].die()
    await hub.worker("w2", state="offline")
    await hub.post({"id": "p", **ALL, "site": "site-a", "expires_in_seconds": 1.5})
    await three[0].run(await three[0].next_assignment())
    parent = await hub.ended("p")
    assert (parent["state"], parent["error"]) == ("failed", "1 of 2 did not succeed: 1 expired")
    assert parent["result"]["children"] == {"w2": "expired", "w1": "succeeded"}
    assert (await children(hub, state="expired"))["w2"]["error"] == "not started in time: worker w2 is offline"


async def test_what_fails_at_one_is_counted_and_retried_there_alone(
    hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    await hub.post({"id": "p", **ALL, "site": "site-a"})
    await three[0].run(await three[0].next_assignment())
    one = await three[1].next_assignment()
    await three[1].accept(one)
    await three[1].finish(one, Outcome.FAILED)
    assert (await hub.ended("p"))["error"] == "1 of 2 did not succeed: 1 failed"

    again = await ask(hub, "p", "retry", reason="the disk is new")
    assert (again["state"], again["reason"], again["finished_at"]) == ("running", "tried again: the disk is new", None)
    one = await three[1].next_assignment()
    assert (one.id, one.attempt) == ("p:w2", 2)
    await three[1].run(one)
    assert (await hub.ended("p"))["state"] == "succeeded"
    assert three[0].tasks.empty()


async def test_to_cancel_a_parent_stops_what_runs_of_it(hub: RunningHub, three: list[ScriptedWorker]) -> None:
    await hub.post({"id": "p", **ALL})
    ones = [await worker.next_assignment() for worker in three]
    await three[0].run(ones[0])
    await three[1].accept(ones[1])
    waiting = asyncio.create_task(hub.ended("p"))
    asked = await ask(hub, "p", "cancel", reason="no need")
    assert (asked["state"], asked["reason"]) == ("running", "cancelling: no need")
    for worker, one in zip(three[1:], ones[1:], strict=True):
        told = await worker.next_control(Cancel)
        assert (told.task, told.reason) == (one.id, "cancelling: no need")
        await worker.accept(one)
        await worker.finish(one, Outcome.CANCELLED)
    parent = await waiting
    assert (parent["state"], parent["error"]) == ("cancelled", "cancelled; 2 of 3 did not succeed: 2 cancelled")


async def test_to_resolve_a_parent_is_refused_and_to_resolve_its_unknown_child_ends_it(
    hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    await hub.post({"id": "p", **ALL, "worker": "w1", "idempotent": False})
    await three[0].accept(await three[0].next_assignment())
    refused = await ask(hub, "p", "resolve", 409, outcome="succeeded")
    assert refused["detail"] == "task p is for each matching worker: resolve one of its children"
    assert refused["problems"][0]["field"] == "target"
    await ask(hub, "nosuch", "resolve", 404, outcome="succeeded")
    await ask(hub, "p", "retry", 409)


async def test_the_same_post_again_answers_the_known_parent_and_another_one_clashes(
    hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    assert three
    await hub.post({"id": "p", **ALL})
    await hub.task("p", state="running")
    assert (await hub.post({"id": "p", **ALL}, status=200))["state"] == "running"
    await hub.post({"id": "p", **ALL, "params": {"n": 2}}, status=409)
    await hub.post({"id": "p", "kind": "noop"}, status=409)
    batch = await hub.http.post("/api/tasks/batch", json=[{"id": "p", **ALL}, {"id": "q", **ALL}, {"id": "q", **ALL}])
    assert [item["status"] for item in batch.json()["items"]] == ["known", "created", "known"]
    await hub.task("q", state="running")
    assert len(await children(hub, "q")) == len(await children(hub)) == 3


async def test_a_child_whose_id_is_another_tasks_has_another_and_the_other_task_is_left_alone(
    hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    await hub.post({"id": "p:w1", "kind": "noop", "site": "site-z", "params": {"mine": True}})
    await hub.post({"id": "p", **ALL})
    for worker in three:
        one = await worker.next_assignment()
        assert one.params == {}
        await worker.run(one)
    assert (await hub.ended("p"))["result"]["succeeded"] == 3
    assert (await hub.get("/api/tasks/p:w1"))["state"] == "pending"
    assert (await children(hub))["w1"]["id"].startswith("p:")


# -- from tasks topics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"id": "p", **ALL}, ALL], ids=["with an id", "without one"])
async def test_one_from_the_sites_topic_is_for_all_of_that_site_and_answered_once(
    world: World, hub: RunningHub, three: list[ScriptedWorker], body: Shape
) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), body, asks=True, correlation=b"c1")
        # a worker has it too, and declines it as the hub's; that says where to answer
        declined = Injected(
            spec=TaskSpec.model_validate(ALL),
            via=Via.SITE,
            reply={"topic": asker.reply_topic, "correlation": "YzE="},  # type: ignore[arg-type]
        )
        task = str(body.get("id", "made-by-w1"))
        event = TaskDeclined(at=now_ms(), task=task, attempt=1, reason=FOR_THE_HUB, injected=declined)
        await three[0].report(event)
        for worker in three[:2]:
            one = await worker.next_assignment()
            assert one.reply is None
            await worker.run(one)
        answer = await asker.answer()
        assert (answer["task"], answer["outcome"], answer["correlation"]) == (task, "succeeded", b"c1")
        assert answer["result"] == {"succeeded": 2, "children": {"w1": "succeeded", "w2": "succeeded"}}
        parent = await hub.get(f"/api/tasks/{task}")
        assert (parent["state"], parent["site"], parent["via"], parent["attempts"]) == (
            "succeeded",
            "site-a",
            "site",
            [],
        )
        assert asker.answers.empty()
    assert len([one for one in (await hub.get("/api/tasks"))["items"] if one["target"] == "all"]) == 1


async def test_one_from_a_workers_own_topic_is_for_that_worker(
    world: World, hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    async with world.asker() as asker:
        await asker.inject(world.worker_topic("w2"), {"id": "p", **ALL})
        await decline(three[1], {"id": "p", **ALL}, "p", Via.WORKER)
        injected = await three[1].tasks.get()
        assert isinstance(injected, TaskRequest)
        await three[1].run(await three[1].next_assignment())
    assert (await hub.ended("p"))["result"]["children"] == {"w2": "succeeded"}


async def test_with_no_worker_there_the_hub_adopts_it_with_an_id_or_without(world: World, hub: RunningHub) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), [ALL, {"id": "p", **ALL}], asks=True)
        await hub.task("p", state="pending", reason="no worker at site-a is known")
        async with world.worker() as worker:
            for _ in range(2):
                await worker.run(await worker.next_assignment())
            assert [(await asker.answer())["outcome"] for _ in range(2)] == ["succeeded", "succeeded"]


async def test_one_of_a_kind_that_nobody_runs_is_refused(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker, world.asker() as asker:
        body = {"id": "p", "kind": "nosuch", "target": "all"}
        await asker.inject(world.site_topic(), body)
        await decline(worker, body, "p")
    (rejection,) = await hub.rejections()
    assert (rejection["task"], rejection["problems"][0]["field"]) == ("p", "kind")
    assert (await hub.get("/api/tasks"))["items"] == []


# -- restarts ----------------------------------------------------------------------------------------------------------


async def test_a_restart_goes_on_with_what_waits_and_with_what_runs(world: World) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(world.worker(name, greets=False)) for name in ("w1", "w2")]
        async with world.hub() as hub:
            await first.hello()
            await second.hello()
            await hub.post({"id": "waits", **ALL, "requires": {"gpu": True}})
            await hub.post({"id": "runs", **ALL})
            ones = [await worker.next_assignment() for worker in (first, second)]
            await first.run(ones[0])
            await second.accept(ones[1])
        async with world.hub() as hub:
            assert (await hub.get("/api/tasks/waits"))["state"] == "pending"
            await second.hello(held=[{"task": ones[1].id, "attempt": 1}])
            await second.finish(ones[1])
            assert (await hub.ended("runs"))["state"] == "succeeded"
            async with world.worker("w3", capabilities={"gpu": True}) as able:
                await able.run(await able.next_assignment())
                assert (await hub.ended("waits"))["result"]["children"] == {"w3": "succeeded"}


async def test_after_a_restart_workers_that_have_not_spoken_yet_are_not_left_out(world: World) -> None:
    async with world.worker("w1", greets=False) as one:
        async with world.hub():
            await one.hello()
        async with world.hub() as hub:
            await hub.post({"id": "p", **ALL})
            await hub.task("p", state="running")
            assert set(await children(hub)) == {"w1"}


async def test_one_that_was_published_while_the_hub_was_away_is_expanded_once(world: World) -> None:
    async with world.worker("w1", greets=False) as worker, world.asker() as asker:
        async with world.hub():
            await worker.hello()
        await asker.inject(world.site_topic(), {"id": "p", **ALL})  # the broker keeps it for the hub
        told = {"at": now_ms(), "attempt": 1, "reason": FOR_THE_HUB}
        injected = Injected(spec=TaskSpec.model_validate(ALL), via=Via.SITE)
        events = [TaskDeclined(**told, task=name, injected=injected) for name in ("p", "made-by-w1")]  # type: ignore[arg-type]
        await worker.send(worker.reported + 1, *events)
        worker.reported += 2
        async with world.hub() as hub:
            await worker.hello()
            ones = [await worker.next_assignment() for _ in range(2)]
            for one in ones:
                await worker.run(one)
            assert {one.id for one in ones} == {"p:w1", "made-by-w1:w1"}
            for parent in ("p", "made-by-w1"):
                assert (await hub.ended(parent))["result"] == {"succeeded": 1, "children": {"w1": "succeeded"}}
            assert len((await hub.get("/api/tasks"))["items"]) == 4
            assert (await hub.get("/api/sites"))["items"][0]["tasks"]["running"] == 0


def said(task: Shape) -> dict[str, tuple[str, str]]:
    """Return what each worker is to a task."""
    return {one["worker"]: (one["verdict"], one["why"]) for one in task["explain"]["workers"]}


async def test_a_parent_says_of_each_worker_what_came_of_its_child_or_why_it_has_none(
    world: World, hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    await hub.post({"id": "p", **ALL, "requires": {"gpu": True}})
    await three[1].run(await three[1].next_assignment())
    await three[2].accept(await three[2].next_assignment())
    await hub.ended("p:w2")
    await hub.task("p:w3", state="running")
    async with world.worker("w4", capabilities={"gpu": True}):
        await hub.worker("w4", state="online")
        told = await hub.get("/api/tasks/p")
    assert said(told) == {
        "w1": ("misfit", "gpu is missing, expected true"),
        "w2": ("chosen", "its child p:w2 is succeeded"),
        "w3": ("chosen", "its child p:w3 is running"),
        "w4": ("left_out", "it has no child: when the task was expanded, it did not match or was not there"),
    }
    assert told["explain"]["counts"] == {"chosen": 2, "left_out": 1, "misfit": 1}
    assert "has a child of it" in told["explain"]["note"]


async def test_a_parent_that_nobody_matches_says_so_of_each_worker(
    hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    await three[1].farewell(stopped=True)
    await hub.worker("w2", state="offline")
    await hub.post({"id": "p", **ALL, "site": "site-a", "requires": {"gpu": True}})
    assert said(await hub.task("p", state="pending")) == {
        "w1": ("misfit", "gpu is missing, expected true"),
        "w2": ("offline", "it is offline: stopped"),
        "w3": ("misfit", "is at site-b"),
    }


async def test_a_child_that_its_worker_declined_says_so_and_not_that_it_is_about_to_go(
    hub: RunningHub, three: list[ScriptedWorker]
) -> None:
    await hub.post({"id": "p", **ALL, "worker": "w1"})
    one = await three[0].next_assignment()
    await three[0].report(TaskDeclined(at=now_ms(), task=one.id, attempt=one.attempt, reason="not allowed here"))
    words = "w1 declined it: not allowed here; no other online worker can run it"
    assert said(await hub.task("p:w1", state="pending", reason=words))["w1"][0] == "declined"
