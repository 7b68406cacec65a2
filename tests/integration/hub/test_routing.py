"""Which worker a real hub gives a task: limits, and what it says of each worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.messages import Injected, Outcome, TaskAccepted, TaskDeclined, TaskFinished, TaskSpec, TaskStarted, Via
from hub.rules.placement import Limit
from tests.support.workers import refs

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub, Shape

SPEC = TaskSpec(kind="noop")
BACKUP = {"job": "backup"}
ONE_BACKUP_PER_SITE = Limit(labels=BACKUP, per="site", max=1)


def said(task: Shape) -> dict[str, tuple[str, str]]:
    """Return what each worker is to a task."""
    return {one["worker"]: (one["verdict"], one["why"]) for one in task["explain"]["workers"]}


async def test_a_limit_holds_a_task_back_and_lets_it_go_when_it_is_free(world: World) -> None:
    async with world.hub(limits=(ONE_BACKUP_PER_SITE,)) as hub, world.worker() as worker:
        await hub.worker("w1", state="online")
        await hub.post({"id": "b1", "kind": "noop", "labels": BACKUP, "site": "site-a"})
        first = await worker.next_assignment()
        await hub.post({"id": "b2", "kind": "noop", "labels": BACKUP, "site": "site-a"})
        await hub.post({"id": "plain", "kind": "noop", "site": "site-a"})
        assert (await worker.next_assignment()).id == "plain"
        held_back = await hub.get("/api/tasks/b2")
        assert held_back["reason"] == 'limit "job=backup per site: 1" is reached at site-a'
        assert said(held_back) == {"w1": ("limited", 'limit "job=backup per site: 1" is reached')}
        await worker.run(first)
        assert (await worker.next_assignment()).id == "b2"


async def test_limits_count_what_an_earlier_hub_had_given_out(world: World) -> None:
    limits = (ONE_BACKUP_PER_SITE,)
    async with world.worker(greets=False) as worker:
        async with world.hub(limits=limits) as hub:
            await worker.hello()
            await hub.post({"id": "b1", "kind": "noop", "labels": BACKUP, "site": "site-a"})
            first = await worker.next_assignment()
            await worker.accept(first)
            await hub.task("b1", state="running")
        async with world.hub(limits=limits) as hub:
            await hub.post({"id": "b2", "kind": "noop", "labels": BACKUP, "site": "site-a"})
            await worker.hello(held=refs([first]))
            await hub.worker("w1", state="online")
            assert "is reached at site-a" in (await hub.get("/api/tasks/b2"))["reason"]
            await worker.finish(first, Outcome.SUCCEEDED)
            assert (await worker.next_assignment()).id == "b2"


async def test_a_cancelled_task_takes_no_limit_with_it(world: World) -> None:
    async with world.hub(limits=(Limit(max=1),)) as hub, world.worker() as worker:
        await hub.worker("w1", state="online")
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.run(await worker.next_assignment())
        assert (await hub.ended("t1"))["state"] == "succeeded"
        for number in range(3):
            await hub.post({"id": f"c{number}", "kind": "noop"})
            one = await worker.next_assignment()
            await hub.http.post(f"/api/tasks/c{number}/cancel")
            await worker.finish(one, Outcome.CANCELLED)
            assert (await hub.ended(f"c{number}"))["state"] == "cancelled"


async def test_a_task_says_of_each_worker_why_it_does_not_go_there(world: World, hub: RunningHub) -> None:
    async with (
        world.worker("able", capabilities={"docker": True}) as able,
        world.worker("bare"),
        world.worker("far", "site-b", capabilities={"docker": True}),
        world.worker("gone", capabilities={"docker": True}) as gone,
    ):
        await gone.farewell(stopped=True)
        for name, state in (("able", "online"), ("bare", "online"), ("far", "online"), ("gone", "offline")):
            await hub.worker(name, state=state)
        await hub.post({"id": "t1", "kind": "noop", "site": "site-a", "requires": {"docker": True}})
        await able.accept(await able.next_assignment())
        task = await hub.task("t1", state="running")
        assert said(task) == {
            "able": ("chosen", "it was given attempt 1: of the workers that could run it, it had the most free room"),
            "bare": ("misfit", "docker is missing, expected true"),
            "far": ("misfit", "is at site-b"),
            "gone": ("offline", "it is offline: stopped"),
        }
        assert task["explain"]["counts"] == {"chosen": 1, "offline": 1, "misfit": 2}
        assert [one["worker"] for one in task["explain"]["workers"]] == ["able", "gone", "bare", "far"]
        assert "does not keep" in task["explain"]["note"]


async def test_a_worker_that_declined_a_task_is_said_to_have_and_why(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.worker("w1", state="online")
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.report(TaskDeclined(at=1, task="t1", attempt=one.attempt, reason="no room"))
        task = await hub.task(
            "t1", state="pending", reason="w1 declined it: no room; no other online worker can run it"
        )
        assert said(task) == {"w1": ("declined", "it declined attempt 1: no room")}


async def test_a_task_that_a_worker_took_by_itself_says_so_and_counts(world: World) -> None:
    async with world.hub(limits=(Limit(max=1),)) as hub, world.worker() as worker:
        await hub.worker("w1", state="online")
        taken = Injected(spec=SPEC, via=Via.SITE)
        await worker.report(
            TaskAccepted(at=now_ms(), task="t1", attempt=1, injected=taken),
            TaskStarted(at=now_ms(), task="t1", attempt=1),
        )
        task = await hub.task("t1", state="running")
        assert said(task)["w1"] == ("chosen", "it took attempt 1 from a tasks topic, without the hub")
        await hub.post({"id": "t2", "kind": "noop"})
        assert (await hub.get("/api/tasks/t2"))["reason"] == 'limit "all: 1" is reached'
        await worker.report(TaskFinished(at=now_ms(), task="t1", attempt=1, outcome=Outcome.SUCCEEDED))
        assert (await worker.next_assignment()).id == "t2"


async def test_many_workers_are_counted_and_the_likeliest_shown(world: World, hub: RunningHub) -> None:
    async with world.worker("able"):
        await hub.worker("able", state="online")
        for number in range(250):
            worker = hub.hub._fleet.add(f"far-{number}", "site-b")  # noqa: SLF001  250 workers as the hub knows them
            hub.hub._attendance.move(worker, worker.presence)  # noqa: SLF001
        await hub.post({"id": "t1", "kind": "noop", "site": "site-a", "requires": {"docker": True}})
        told = (await hub.get("/api/tasks/t1"))["explain"]
        assert (len(told["workers"]), told["not_shown"]) == (200, 51)
        assert told["counts"] == {"misfit": 251}
        assert told["workers"][0]["worker"] == "able"
