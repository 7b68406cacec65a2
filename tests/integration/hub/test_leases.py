"""Who holds what: told by hellos and heartbeats, judged once the journal is committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker.clock import now_ms
from broker.messages import Cancel, FactObserved, Outcome, Receipt, TaskAccepted, TaskFinished

if TYPE_CHECKING:
    from broker.messages import Assignment
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub
    from tests.support.workers import ScriptedWorker

FACT = FactObserved(at=1, subject="s", name="n", value=1)


def accepted(one: Assignment) -> TaskAccepted:
    return TaskAccepted(at=now_ms(), task=one.id, attempt=one.attempt)


def held(*assignments: Assignment) -> list[dict[str, object]]:
    return [{"task": one.id, "attempt": one.attempt} for one in assignments]


# -- a hello -----------------------------------------------------------------------------------------------------------


async def test_what_was_sent_and_never_came_is_in_the_answer_to_the_next_hello(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        one = await worker.next_assignment()
        sync = await worker.hello()
        assert sync.send == (one,)
        assert (await worker.hello(held=held(one))).send == ()
        await worker.accept(one)
        assert (await worker.hello(held=held(one))).send == ()


async def test_a_lost_task_goes_on_at_its_worker_that_comes_back_with_it(world: World) -> None:
    async with world.hub(lost_after_seconds=0.2) as hub:
        async with world.worker() as first:
            await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
            await hub.post({"id": "t2", "kind": "noop"})
            one, two = await first.next_assignment(), await first.next_assignment()
            await first.accept(one)
            await first.accept(two)
            first.die()
        await hub.task("t1", state="unknown")
        await hub.task("t2", state="pending")
        async with world.worker(greets=False, stream=first.stream, reported=first.reported) as back:
            sync = await back.hello(held=held(one, two))
            assert (sync.drop, sync.send) == ((), ())
            for task in ("t1", "t2"):
                shown = await hub.get(f"/api/tasks/{task}")
                assert (shown["state"], shown["worker"], shown["attempt"]) == ("running", "w1", 1)


async def test_what_its_worker_never_took_before_it_went_is_sent_when_it_is_back(world: World) -> None:
    async with world.hub(lost_after_seconds=0.2) as hub:
        async with world.worker() as first:
            await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
            one = await first.next_assignment()
            first.die()
        await hub.task("t1", state="unknown")
        async with world.worker(greets=False, stream=first.stream, reported=first.reported) as back:
            sync = await back.hello()
            assert sync.send == (one,)
            await back.run(one)
            task = await hub.ended("t1")
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)


async def test_what_may_have_been_taken_waits_for_the_journal(world: World) -> None:
    async with world.hub(lost_after_seconds=0.2) as hub:
        async with world.worker() as first:
            await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
            await hub.post({"id": "t2", "kind": "noop", "idempotent": False})
            one, two = await first.next_assignment(), await first.next_assignment()
            first.die()
        await hub.task("t1", state="unknown")
        await hub.task("t2", state="unknown")
        async with world.worker(greets=False, stream=first.stream) as back:
            sync = await back.hello(journal={"stream": back.stream, "oldest": 1, "newest": 1})
            assert sync.send == ()
            await back.report(accepted(one))
            await hub.task("t1", state="running")
            assert await back.next_assignment() == two


@pytest.mark.parametrize("reports", [True, False])
async def test_a_new_journal_leaves_what_may_not_run_twice_unknown(
    world: World,
    hub: RunningHub,
    reports: bool,  # noqa: FBT001
) -> None:
    async with world.worker(slots=2) as first:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        await hub.post({"id": "t2", "kind": "noop"})
        one, two = await first.next_assignment(), await first.next_assignment()
        if reports:
            await first.accept(one)
            await first.accept(two)
    async with world.worker() as reborn:
        again = await reborn.next_assignment()
        assert (again.id, again.attempt) == ("t2", 2)
        task = await hub.get("/api/tasks/t1")
        assert (task["state"], task["reason"]) == ("unknown", "its worker came back with a new journal")
        await reborn.hello()
        assert (await hub.get("/api/tasks/t1"))["state"] == "unknown"
    (gap,) = (await hub.get("/api/gaps"))["items"]
    mark = 4 if reports else 0
    assert gap["reason"] == f"a new journal: what the last one held after event {mark} did not arrive"


async def test_an_old_journal_that_comes_back_is_a_new_one_too(world: World, hub: RunningHub) -> None:
    async with world.worker() as old:
        pass
    async with world.worker() as new:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        await new.next_assignment()  # it may have run it, and nobody else can tell
    async with world.worker(stream=old.stream):
        assert (await hub.get("/api/tasks/t1"))["state"] == "unknown"


# -- heartbeats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idempotent", [True, False])
async def test_what_a_heartbeat_names_is_kept_alive_until_one_does_not(
    world: World,
    idempotent: bool,  # noqa: FBT001
) -> None:
    """A worker with a long history to tell has accepted it, and the event that says so waits its turn."""
    async with world.hub(accept_timeout_seconds=0.5) as hub, world.worker() as slow:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": idempotent})
        one = await slow.next_assignment()
        await slow.beat(held=(one,), newest=7)
        for _ in range(6):  # each as long as the hub looks after deadlines
            await hub.deadlines_passed()
        assert (await hub.get("/api/tasks/t1"))["attempt"] == 1
        assert slow.tasks.empty()
        await slow.send(7, FACT, after=0)  # all that it knew is told, and nothing of the task
        await slow.next_control(Receipt)
        await slow.beat(held=(), newest=7)
        if idempotent:
            assert (await slow.next_assignment()).attempt == 2
        else:
            task = await hub.task("t1", state="unknown")
            assert task["reason"] == "w1 does not hold it any more, and has not told how it ended"


async def test_what_a_heartbeat_does_not_name_any_more_is_taken_back(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.accept(one)
        await worker.beat(held=())  # its result was dropped: the disk was full
        again = await worker.next_assignment()
        assert (again.id, again.attempt) == ("t1", 2)
        lost = (await hub.get("/api/tasks/t1"))["attempts"][0]
        assert lost["error"] == "w1 does not hold it any more, and has not told how it ended"


async def test_a_heartbeat_is_judged_once_the_journal_is_committed_as_far_as_it_knew(
    world: World, hub: RunningHub
) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.accept(one)
        await worker.beat(held=(), newest=worker.reported + 1)
        await hub.deadlines_passed()
        assert (await hub.get("/api/tasks/t1"))["state"] == "running"
        await worker.finish(one)
        task = await hub.ended("t1")
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)


async def test_a_heartbeat_does_not_judge_what_was_accepted_after_it_was_written(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await worker.report(FACT)
        before = worker.reported
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.accept(one)  # the batch has overtaken the heartbeat
        await worker.beat(held=(), newest=before)
        await hub.deadlines_passed()
        await hub.deadlines_passed()
        assert (await hub.get("/api/tasks/t1"))["state"] == "running"
        await worker.finish(one)
        assert len((await hub.ended("t1"))["attempts"]) == 1


async def test_a_busy_worker_is_judged_by_the_first_heartbeat_that_waits(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.accept(one)
        for ahead in (1, 2, 3):  # its journal has always grown, and is never committed to the end
            await worker.beat(held=(), newest=worker.reported + ahead)
        await worker.report(FACT)
        assert (await worker.next_assignment()).attempt == 2


# -- not accepted ------------------------------------------------------------------------------------------------------


async def test_what_a_worker_never_accepts_though_it_is_there_does_not_wait_for_ever(world: World) -> None:
    async with world.hub(accept_timeout_seconds=0.1) as hub, world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        task = await hub.task("t1", state="unknown")
        assert task["reason"] == "w1 was sent it 7 times and did not accept it: it may have ended it before"
        one = await worker.next_assignment()
        await worker.run(one)
        assert (await hub.ended("t1"))["state"] == "succeeded"


async def test_a_late_end_of_the_first_attempt_ends_the_task_as_that_attempt(world: World) -> None:
    async with world.hub(lost_after_seconds=0.2) as hub:
        async with world.worker("w1") as first:
            await hub.post({"id": "t1", "kind": "noop"})
            one = await first.next_assignment()
            await first.accept(one)
            first.die()
        async with world.worker("w2") as second:
            again = await second.next_assignment()
            await second.accept(again)
            async with world.worker("w1", greets=False, stream=first.stream, reported=first.reported) as back:
                await back.report(
                    TaskFinished(at=now_ms(), task="t1", attempt=1, outcome=Outcome.SUCCEEDED, result="late")
                )
                cancel = await second.next_control(Cancel)
                assert (cancel.task, cancel.attempt, cancel.reason) == ("t1", 2, "w1 has done it")
            task = await hub.ended("t1")
    assert (task["worker"], task["attempt"], task["result"]) == ("w1", 1, "late")


async def test_a_worker_with_a_history_to_tell_has_as_long_as_it_takes_to_name_what_it_accepted(world: World) -> None:
    """The event that says so comes behind the history. A heartbeat does not, but there is one in many seconds only."""
    async with (
        world.hub(accept_timeout_seconds=0.2) as hub,
        world.worker(greets=False, heartbeat_interval_seconds=8) as busy,
    ):
        await busy.hello(journal={"stream": busy.stream, "oldest": 1, "newest": 9})
        await hub.post({"id": "t1", "kind": "noop"})
        one = await busy.next_assignment()
        for _ in range(3):
            await hub.deadlines_passed()
        assert (await hub.get("/api/tasks/t1"))["attempt"] == 1  # several times 0.2 s have passed
        await busy.beat(held=(one,), newest=9)
        for _ in range(3):
            await hub.deadlines_passed()
        assert (await hub.get("/api/tasks/t1"))["attempt"] == 1


async def test_a_worker_that_never_tells_its_history_does_not_keep_what_it_does_not_name(world: World) -> None:
    async with (
        world.hub(accept_timeout_seconds=0.2) as hub,
        world.worker(greets=False, heartbeat_interval_seconds=0.4) as mute,
    ):
        await mute.hello(journal={"stream": mute.stream, "oldest": 1, "newest": 9})
        await hub.post({"id": "t1", "kind": "noop"})
        assert (await mute.next_assignment()).attempt == 1
        beating = asyncio.create_task(keep_beating(mute))
        assert (await mute.next_assignment()).attempt == 2
        beating.cancel()


async def keep_beating(worker: ScriptedWorker) -> None:
    """Be there, and name nothing."""
    while True:
        await worker.beat()
        await asyncio.sleep(0.2)
