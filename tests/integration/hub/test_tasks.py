"""Tasks from the API to a worker and back: assignment, receipt, refusal, loss."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from broker.clock import now_ms
from broker.messages import (
    Cancel,
    FactObserved,
    InputProblem,
    Outcome,
    Receipt,
    TaskAccepted,
    TaskDeclined,
    TaskFinished,
    TaskProgress,
    TaskRejected,
    encode,
)
from broker.topics import Events
from hub.deadlines import MAX_SENDS

if TYPE_CHECKING:
    from broker.messages import Assignment
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub


def accepted(one: Assignment) -> TaskAccepted:
    return TaskAccepted(at=now_ms(), task=one.id, attempt=one.attempt)


def finished(one: Assignment, outcome: Outcome = Outcome.SUCCEEDED) -> TaskFinished:
    return TaskFinished(at=now_ms(), task=one.id, attempt=one.attempt, outcome=outcome, result={"of": one.attempt})


async def test_a_posted_task_reaches_the_workers_topic_as_its_first_attempt(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "site": "site-a", "params": {"n": [1]}, "priority": 3})
        one = await worker.next_assignment()
        assert (one.id, one.attempt, one.kind, one.params, one.priority) == ("t1", 1, "noop", {"n": [1]}, 3)
        assert (await hub.get("/api/tasks/t1"))["state"] == "assigned"
        await worker.accept(one)
        assert (await hub.get("/api/tasks/t1"))["state"] == "running"
        await worker.finish(one, result={"done": True})
        task = await hub.ended("t1")
    assert (task["state"], task["result"], task["worker"], task["attempt"]) == ("succeeded", {"done": True}, "w1", 1)
    (attempt,) = task["attempts"]
    assert None not in [attempt[name] for name in ("assigned_at", "accepted_at", "started_at", "finished_at")]
    assert [step["event"] for step in task["timeline"]] == ["created", "assigned", "accepted", "started", "succeeded"]


async def test_a_task_that_waits_is_sent_when_a_worker_comes(world: World, hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop", "site": "site-a", "requires": {"docker": True}})
    async with world.worker("w1"):
        assert (await hub.get("/api/tasks/t1"))["reason"] == "no online worker at site-a has docker"
        async with world.worker("w2", capabilities={"docker": True}) as able:
            assert (await able.next_assignment()).id == "t1"


async def test_tasks_go_by_priority_and_no_further_than_there_is_room(world: World, hub: RunningHub) -> None:
    for number, priority in enumerate([0, 5, -5, 5]):
        await hub.post({"id": f"t{number}", "kind": "noop", "priority": priority})
    async with world.worker(slots=2) as worker:
        first, second = await worker.next_assignment(), await worker.next_assignment()
        assert [first.id, second.id] == ["t1", "t3"]
        assert (await hub.get("/api/tasks/t0"))["reason"] == "every worker that can run it is busy"
        await worker.run(first)
        assert (await worker.next_assignment()).id == "t0"


async def test_a_hundred_tasks_run_once_each_and_both_workers_get_some(world: World, hub: RunningHub) -> None:
    async with world.worker("w1", slots=100) as one, world.worker("w2", slots=100) as two:
        await hub.http.post("/api/tasks/batch", json=[{"id": f"t{number}", "kind": "noop"} for number in range(100)])
        got = {worker.id: [await worker.next_assignment() for _ in range(50)] for worker in (one, two)}
        for worker in (one, two):
            await worker.report(*(finished(assignment) for assignment in got[worker.id]))
    assert len({assignment.id for assignments in got.values() for assignment in assignments}) == 100
    listed = (await hub.get("/api/tasks", state="succeeded", limit=500))["items"]
    assert len(listed) == 100


# -- receipts ----------------------------------------------------------------------------------------------------------


async def test_a_receipt_comes_after_the_commit(world: World, hub: RunningHub) -> None:
    order: list[str] = []
    event.listen(hub.hub._engine, "commit", lambda _: order.append("commit"))  # noqa: SLF001
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        order.clear()
        await worker.finish(one)
        order.append("receipt")
        assert order == ["commit", "receipt"]


async def test_no_receipt_where_the_commit_fails(world: World, hub: RunningHub) -> None:
    engine, loop, refused = hub.hub._engine, asyncio.get_running_loop(), asyncio.Event()  # noqa: SLF001

    def refuse(_: object) -> None:
        loop.call_soon_threadsafe(refused.set)
        msg = "the disk is full"
        raise OSError(msg)

    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        event.listen(engine, "commit", refuse)
        await worker.send(1, accepted(one), finished(one))
        await refused.wait()
        assert worker.control.empty()
        event.remove(engine, "commit", refuse)
        assert (await worker.next_control(Receipt)).through == 2  # it is tried again
    assert (await hub.ended("t1"))["state"] == "succeeded"


async def test_a_batch_that_comes_again_or_overlaps_changes_nothing(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        first, second = accepted(one), finished(one)
        progress = TaskProgress(at=now_ms(), task=one.id, attempt=1, fraction=0.5)
        for batch, through in (
            ((1, first), 1),
            ((1, first), 1),
            ((3, second), 1),
            ((1, first, progress), 2),
            ((2, progress, second), 3),
            ((1, first, progress, second), 3),
        ):
            await worker.send(*batch)
            assert (await worker.next_control(Receipt)).through == through
    task = await hub.ended("t1")
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)


async def test_a_batch_that_is_none_is_a_rejection_and_the_next_is_taken(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await worker.publish(Events("site-a", "w1"), b'{"stream": "st", "first": 0, "events": []}')
        await worker.report(FactObserved(at=1, subject="s", name="n", value=1))
        (rejection,) = await hub.rejections()
    assert (rejection["reported_by"], rejection["site"]) == ("hub", "site-a")
    assert [problem["field"] for problem in rejection["problems"]] == ["first", "events"]


async def test_what_a_worker_rejected_is_listed(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        for number in range(3):
            await worker.report(
                TaskRejected(
                    at=now_ms(),
                    topic=world.site_topic(),
                    reason="kind is missing: expected a value",
                    problems=(InputProblem(field="kind", value="", expected="a value"),),
                    payload="{}",
                    task=f"bad-{number}",
                )
            )
    page = await hub.get("/api/rejections", limit=2, site="site-a")
    assert [item["task"] for item in page["items"]] == ["bad-2", "bad-1"]
    assert page["items"][0]["problems"][0]["message"] == "kind is missing: expected a value"
    rest = await hub.get("/api/rejections", limit=2, cursor=page["next"])
    assert ([item["task"] for item in rest["items"]], rest["next"]) == (["bad-0"], None)
    assert (await hub.get("/api/rejections", site="site-b"))["items"] == []


# -- declined, failed --------------------------------------------------------------------------------------------------


async def test_a_declined_task_goes_elsewhere_and_not_back(world: World, hub: RunningHub) -> None:
    async with world.worker("w1") as first:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await first.next_assignment()
        await first.report(TaskDeclined(at=1, task="t1", attempt=1, reason="not allowed here"))
        task = await hub.task("t1", state="pending")
        assert task["reason"] == "w1 declined it: not allowed here; no other online worker can run it"
        async with world.worker("w2") as second:
            again = await second.next_assignment()
            assert (again.id, again.attempt) == (one.id, 2)
            await second.run(again)
    assert [attempt["state"] for attempt in (await hub.ended("t1"))["attempts"]] == ["declined", "succeeded"]


async def test_a_declined_task_does_not_hold_up_the_next(world: World, hub: RunningHub) -> None:
    async with world.worker(slots=1) as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.next_assignment()
        await worker.report(TaskDeclined(at=1, task="t1", attempt=1, reason="not allowed here"))
        await hub.post({"id": "t2", "kind": "noop"})
        assert (await worker.next_assignment()).id == "t2"


async def test_a_new_session_is_offered_what_the_last_one_declined(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.next_assignment()
        await worker.report(TaskDeclined(at=1, task="t1", attempt=1, reason="not allowed here"))
        worker.session = "a new one"
        await worker.hello()
        assert (await worker.next_assignment()).attempt == 2


async def test_a_worker_that_can_do_other_things_now_is_offered_again_what_it_declined(
    world: World, hub: RunningHub
) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.next_assignment()
        await worker.report(TaskDeclined(at=1, task="t1", attempt=1, reason="the engine is gone"))
        await hub.task("t1", state="pending")
        worker.capabilities = {"docker": True}
        await worker.hello()
        assert (await worker.next_assignment()).attempt == 2


async def test_a_failed_task_is_tried_again_after_its_wait(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop", "retry": {"max_attempts": 2, "backoff_seconds": 0.2}})
        one = await worker.next_assignment()
        await worker.finish(one, Outcome.FAILED)
        waiting = await hub.get("/api/tasks/t1")
        assert waiting["state"] == "pending"
        assert waiting["reason"] == "try 1 of 2 ended: failed; it waits for its next try"
        again = await worker.next_assignment()
        assert again.attempt == 2
        await worker.finish(again, Outcome.FAILED)
    assert (await hub.ended("t1"))["state"] == "failed"


# -- not accepted, lost ------------------------------------------------------------------------------------------------


async def test_what_is_not_accepted_in_time_goes_to_another_worker(world: World) -> None:
    async with world.hub(accept_timeout_seconds=0.3) as hub, world.worker("w1", slots=1) as silent:
        await hub.post({"id": "t1", "kind": "noop"})
        first = await silent.next_assignment()
        async with world.worker("w2", slots=5) as other:
            second = await other.next_assignment()
            assert (first.attempt, second.attempt) == (1, 2)
            await other.accept(second)
            await silent.report(accepted(first))  # late: it must not go on
            cancel = await silent.next_control(Cancel)
            assert (cancel.task, cancel.attempt, cancel.reason) == ("t1", 1, "another worker holds the task")
            await other.finish(second)
        task = await hub.ended("t1")
    assert [(one["attempt"], one["worker"]) for one in task["attempts"]] == [(1, "w1"), (2, "w2")]
    assert task["worker"] == "w2"


async def test_what_may_not_run_twice_is_only_sent_again_as_it_was(world: World) -> None:
    async with world.hub(accept_timeout_seconds=0.3) as hub, world.worker("w1") as silent, world.worker("w2") as other:
        await hub.post({"id": "t1", "kind": "noop", "worker": "w1", "idempotent": False})
        await hub.post({"id": "t2", "kind": "noop", "worker": "w2"})
        first, again = await silent.next_assignment(), await silent.next_assignment()
        assert first == again
        assert first.attempt == 1
        assert (await other.next_assignment()).id == "t2"
        await silent.run(again)
        assert len((await hub.ended("t1"))["attempts"]) == 1


async def test_a_worker_whose_disk_is_full_is_sent_nothing_until_it_has_room(world: World) -> None:
    async with world.hub(accept_timeout_seconds=0.1) as hub, world.worker() as worker:
        await hub.post({"id": "before", "kind": "noop", "idempotent": False})
        one = await worker.next_assignment()
        await worker.beat(storage="full")
        await worker.hello()  # answered after the heartbeat was taken
        while not worker.tasks.empty():
            worker.tasks.get_nowait()
        shown = await hub.get("/api/workers/w1")
        assert (shown["load"]["storage"], shown["transport"]) == ("full", "mqtt")
        task = await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
        assert task["reason"] == "the disk of every worker that can run it is full"
        for _ in range(MAX_SENDS + 2):
            await hub.deadlines_passed()
        assert worker.tasks.empty()
        assert (await hub.get("/api/tasks/before"))["state"] == "assigned"  # nobody gave up on it
        await worker.beat(storage="ok")
        got: dict[str, int] = {}
        while len(got) < 2:  # one may come twice before the other
            again = await worker.next_assignment()
            got[again.id] = again.attempt
        assert got == {"before": one.attempt, "t1": 1}


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_lost_workers_task_goes_elsewhere_or_is_unknown(world: World, idempotent: bool) -> None:  # noqa: FBT001
    async with (
        world.hub(lost_after_seconds=0.3) as hub,
        world.worker("w1", slots=5) as lost,
        world.worker("w2") as other,
    ):
        await hub.post({"id": "t1", "kind": "noop", "idempotent": idempotent})
        one = await lost.next_assignment()
        await lost.accept(one)
        lost.die()
        await hub.worker("w1", state="offline", reason="connection_lost")
        if idempotent:
            again = await other.next_assignment()
            assert again.attempt == 2
            await other.run(again)
            assert (await hub.ended("t1"))["worker"] == "w2"
        else:
            task = await hub.task("t1", state="unknown")
            assert task["reason"] == "w1 is offline: connection_lost"
            assert other.tasks.empty()
            async with world.worker("w1", stream=lost.stream, reported=lost.reported) as back:
                await back.finish(one)
            assert (await hub.ended("t1"))["state"] == "succeeded"


async def test_a_worker_that_comes_back_without_what_it_held_is_not_waited_for(world: World, hub: RunningHub) -> None:
    async with world.worker("w1") as first:
        await hub.post({"id": "t1", "kind": "noop"})
        await first.accept(await first.next_assignment())
        first.die()
        await hub.worker("w1", state="offline")
    async with world.worker("w1") as reborn:
        again = await reborn.next_assignment()
        assert (again.id, again.attempt) == ("t1", 2)
    lost = (await hub.get("/api/tasks/t1"))["attempts"][0]
    assert (lost["state"], lost["error"]) == ("lost", "its worker came back with a new journal")


async def test_a_worker_that_comes_back_with_what_it_held_goes_on(world: World, hub: RunningHub) -> None:
    async with world.worker("w1") as first:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await first.next_assignment()
        await first.accept(one)
        first.die()
        await hub.worker("w1", state="offline")
    async with world.worker("w1", greets=False, stream=first.stream, reported=first.reported) as back:
        await back.hello(held=[{"task": one.id, "attempt": one.attempt}])
        await back.finish(one)
    task = await hub.ended("t1")
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)


async def test_a_task_that_is_accepted_while_the_hello_is_under_way_is_not_taken_back(
    world: World, hub: RunningHub
) -> None:
    fact = FactObserved(at=1, subject="s", name="n", value=1)
    async with world.worker("w1", greets=False) as worker:
        await worker.hello(journal={"stream": worker.stream, "oldest": 1, "newest": 2})
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        await worker.report(fact, fact, accepted(one))  # one batch: what the hello told of, and what came after it
        await hub.post({"id": "t2", "kind": "noop"})
        other = await worker.next_assignment()
        assert other.id == "t2"
        await worker.run(other)
        await hub.deadlines_passed()
        await worker.finish(one)
    task = await hub.ended("t1")
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)


async def test_a_hello_is_told_what_is_superseded(world: World) -> None:
    async with world.hub(lost_after_seconds=0.2) as hub, world.worker("w1") as first:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await first.next_assignment()
        await first.accept(one)
        first.die()
        async with world.worker("w2") as second:
            again = await second.next_assignment()
            await second.accept(again)
            async with world.worker("w1", greets=False, stream=first.stream, reported=first.reported) as back:
                sync = await back.hello(held=[{"task": "t1", "attempt": 1}, {"task": "unheard-of", "attempt": 1}])
                assert [(ref.task, ref.attempt) for ref in sync.drop] == [("t1", 1)]
                assert sync.committed_through == first.reported
            await second.finish(again)


async def test_events_that_this_database_has_lost_are_recorded_as_a_gap(world: World, hub: RunningHub) -> None:
    async with world.worker(greets=False) as worker:
        sync = await worker.hello(journal={"stream": "st", "oldest": 101, "newest": 103, "settled": 100})
        assert sync.committed_through == 100
        fact = FactObserved(at=1, subject="s", name="n", value=1)
        await worker.send(101, fact, stream="st")
        assert (await worker.next_control(Receipt)).through == 101
    (gap,) = (await hub.get("/api/gaps"))["items"]
    assert (gap["count"], gap["reason"]) == (100, "this database has lost what its worker told of it, after event 0")


async def test_a_tasks_result_may_be_as_large_as_a_message(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        text = "x" * (256 * 1024 - 100)
        await worker.finish(one, result=text)
        assert len(encode(finished(one))) < 1000
    assert (await hub.ended("t1"))["result"] == text
