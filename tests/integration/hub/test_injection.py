"""Tasks that anybody publishes: adopted, watched or left alone, answered, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from broker.clock import now_ms
from broker.messages import (
    Cancel,
    Injected,
    Outcome,
    Renew,
    ReplyTo,
    TaskAccepted,
    TaskDeclined,
    TaskFinished,
    TaskRequest,
    TaskSpec,
    Via,
)
from tests.support.workers import soon

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub

SPEC = TaskSpec(kind="noop")


async def test_with_no_worker_it_waits_with_its_reason_and_runs_when_one_comes(world: World, hub: RunningHub) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop"})
        task = await hub.task("t1")
        assert (task["state"], task["reason"], task["via"]) == ("pending", "no worker at site-a is known", "site")
        async with world.worker() as worker:
            one = await worker.next_assignment()
            assert (one.id, one.attempt) == ("t1", 1)
            await worker.run(one)
        assert (await hub.ended("t1"))["state"] == "succeeded"


@pytest.mark.usefixtures("hub")
async def test_without_an_id_and_with_no_worker_it_is_adopted_too(world: World) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), [{"kind": "noop"}, {"kind": "noop"}])
    async with world.worker() as worker:
        first, second = await worker.next_assignment(), await worker.next_assignment()
        assert first.id != second.id


async def test_without_an_id_and_with_a_worker_it_is_left_alone(world: World, hub: RunningHub) -> None:
    async with world.worker(), world.asker() as asker:
        await asker.inject(world.site_topic(), {"kind": "noop"})
        await asker.inject(world.site_topic(), {"id": "marker", "kind": "noop"})  # handled after the other
        await hub.task("marker")
        assert [task["id"] for task in (await hub.get("/api/tasks"))["items"]] == ["marker"]


async def test_what_no_worker_accepts_is_dispatched_as_the_second_attempt(world: World) -> None:
    async with world.hub(accept_timeout_seconds=1.5) as hub, world.worker() as worker, world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop"})
        waiting = await hub.task("t1", state="pending")
        assert waiting["reason"] == "it was published to workers, and none has accepted it yet"
        one = await worker.next_assignment()
        assert (one.id, one.attempt) == ("t1", 2)
        await worker.run(one)
        assert (await hub.ended("t1"))["attempt"] == 2


async def test_what_a_worker_accepts_in_time_is_its_own(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker, world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop"})
        await hub.task("t1", state="pending")
        injected = Injected(spec=SPEC, via=Via.SITE)
        await worker.report(TaskAccepted(at=now_ms(), task="t1", attempt=1, injected=injected))
        await hub.task("t1", state="running")
        await worker.report(TaskFinished(at=now_ms(), task="t1", attempt=1, outcome=Outcome.SUCCEEDED))
        task = await hub.ended("t1")
        assert (task["worker"], task["attempt"], len(task["attempts"])) == ("w1", 1, 1)


async def test_what_may_not_run_twice_is_placed_when_its_workers_have_shown_that_they_do_not_have_it(
    world: World,
) -> None:
    async with (
        world.hub(accept_timeout_seconds=0.5) as hub,
        world.worker("w1") as first,
        world.worker("w2", kinds=("sleep",)) as second,
        world.asker() as asker,
    ):
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop", "idempotent": False})
        await second.renew()
        waiting = await hub.get("/api/tasks/t1")
        assert (waiting["state"], waiting["reason"]) == (
            "pending",
            "it may not run twice, and w1 may have it: waiting to hear",
        )
        await first.renew()
        one = await first.next_assignment()
        assert (one.id, one.attempt) == ("t1", 2)


async def test_a_worker_that_reconnects_has_shown_as_much(world: World) -> None:
    async with world.hub(accept_timeout_seconds=0.3) as hub, world.asker() as asker:
        async with world.worker() as before:
            await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop", "idempotent": False})
            await hub.task("t1", state="pending")
        async with world.worker(stream=before.stream, reported=before.reported) as back:
            assert (await back.next_assignment()).id == "t1"


async def test_a_worker_that_lost_its_journal_leaves_its_offers_unknown(world: World) -> None:
    async with world.hub(accept_timeout_seconds=0.3) as hub, world.asker() as asker:
        async with world.worker():
            await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop", "idempotent": False})
            await asker.inject(world.site_topic(), {"id": "t2", "kind": "noop"})
            await hub.task("t2", state="pending")
        async with world.worker() as reborn:
            assert (await reborn.next_assignment()).id == "t2"
            task = await hub.task("t1", state="unknown")
    assert task["reason"] == "w1 may have had it, and came back with a new journal"


async def test_on_a_workers_own_topic_only_an_answer_on_the_same_connection_shows_that_it_is_not_there(
    world: World,
) -> None:
    async with world.hub(accept_timeout_seconds=0.3), world.worker() as worker, world.asker() as asker:
        await asker.inject(world.worker_topic(), {"id": "t1", "kind": "noop", "idempotent": False})
        await worker.next_control(Renew)
        worker.session, worker.intake = "another connection", "another intake"  # the topic may wait there still
        await worker.hello()
        await worker.renew()
        injected, again = await soon(worker.tasks.get()), await worker.next_assignment()
        assert isinstance(injected, TaskRequest)
        assert (again.id, again.attempt) == ("t1", 2)


async def test_a_task_on_a_workers_own_topic_runs_there_or_nowhere(world: World, hub: RunningHub) -> None:
    async with world.asker() as asker:
        await asker.inject(world.worker_topic("w2"), {"id": "t1", "kind": "noop"})
        async with world.worker("w1"):
            task = await hub.task("t1", state="pending")
            assert (task["worker"], task["reason"], task["via"]) == ("w2", "no worker w2 is known", "worker")
            async with world.worker("w2") as second:
                assert (await second.next_assignment()).id == "t1"


async def test_the_hub_does_not_hear_its_own_assignments(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker, world.asker() as asker:
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.run(await worker.next_assignment())
        await asker.inject(world.worker_topic(), {"id": "t2", "kind": "noop"})
        await hub.task("t2")
        assert {task["id"]: task["via"] for task in (await hub.get("/api/tasks"))["items"]} == {
            "t1": "http",
            "t2": "worker",
        }
        assert await hub.rejections() == []


async def test_a_retained_task_is_ignored_when_it_is_repeated(world: World) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "old", "kind": "noop"}, retain=True)
        async with world.hub() as hub:
            await asker.inject(world.site_topic(), {"id": "new", "kind": "noop"})
            await hub.task("new")
            assert [task["id"] for task in (await hub.get("/api/tasks"))["items"]] == ["new"]


async def test_an_array_of_tasks_keeps_the_good_ones(world: World, hub: RunningHub) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), [{"id": "t1", "kind": "noop"}, 7, {"id": "t2", "kind": "noop", "x": 1}])
        await hub.task("t1")
    assert {item["reason"] for item in await hub.rejections()} == {
        "[1] is 7: expected an object",
        "[2].x is 1: there is no such field",
    }


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_what_is_refused_is_answered_and_listed(world: World, hub: RunningHub) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop", "x": 1}, asks=True, correlation=b"\x00\xff")
        answer = await asker.answer()
    assert answer == {
        "task": "t1",
        "outcome": "rejected",
        "error": "x is 1: there is no such field",
        "correlation": b"\x00\xff",
    }
    (rejection,) = await hub.rejections()
    assert (rejection["topic"], rejection["site"], rejection["reported_by"], rejection["task"]) == (
        world.site_topic(),
        "site-a",
        "hub",
        "t1",
    )
    assert rejection["problems"][0]["field"] == "x"


async def test_what_expires_is_answered(world: World, hub: RunningHub) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop", "expires_in_seconds": 0.2}, asks=True)
        answer = await asker.answer()
    assert (answer["task"], answer["outcome"], answer["correlation"]) == ("t1", "expired", None)
    assert answer["error"] == "not started in time: no worker at site-a is known"
    assert (await hub.get("/api/tasks/t1"))["state"] == "expired"


@pytest.mark.usefixtures("hub")
async def test_who_asked_travels_with_the_assignment(world: World) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop"}, asks=True, correlation=b"hi")
        async with world.worker() as worker:
            one = await worker.next_assignment()
            assert one.reply == ReplyTo(topic=asker.reply_topic, correlation="aGk=")


@pytest.mark.parametrize("name", ["elsewhere/x", "{root}/v1/sites/site-a/tasks", "{root}/v1/replies/" + "x" * 600])
async def test_a_response_topic_that_is_not_under_replies_is_refused(world: World, hub: RunningHub, name: str) -> None:
    async with world.asker() as asker:
        where = name.format(root=world.topics.root)
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop"}, reply_topic=where)
        await asker.inject(world.site_topic(), {"id": "t2", "kind": "noop"})
        await hub.task("t2")
    (rejection,) = await hub.rejections()
    assert rejection["problems"][0]["field"] == "response topic"
    assert rejection["problems"][0]["value"].startswith(f'"{where[:50]}')


@pytest.mark.usefixtures("hub")
async def test_what_a_worker_declined_and_nobody_can_run_is_answered(world: World) -> None:
    async with world.worker() as worker, world.asker() as asker:
        injected = Injected(
            spec=TaskSpec(kind="nonsense"), via=Via.SITE, reply=ReplyTo(topic=asker.reply_topic, correlation="aGk=")
        )
        await worker.report(TaskDeclined(at=1, task="t1", attempt=1, reason="runs no nonsense", injected=injected))
        answer = await asker.answer()
    assert (answer["task"], answer["outcome"], answer["correlation"]) == ("t1", "rejected", b"hi")
    assert 'kind is "nonsense"' in answer["error"]


# -- refused -----------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "message"),
    "not JSON": (b"nonsense", "message"),
    "invalid UTF-8": (b'{"kind": "\xff"}', "message"),
    "an empty array": (b"[]", "message"),
    "arrays of arrays": (b'[[{"kind": "noop"}]]', "[0]"),
    "a mebibyte": (b'{"kind": "noop", "params": {"x": "' + b"y" * 2**20 + b'"}}', "message"),
    "deep nesting": (b'{"kind": "noop", "params": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "message"),
    "NaN": (b'{"kind": "noop", "params": {"x": NaN}}', "params.x"),
    "a misspelt field": (b'{"kind": "noop", "timeout_secs": 5}', "timeout_secs"),
    "a timeout of -1": (b'{"kind": "noop", "timeout_seconds": -1}', "timeout_seconds"),
    "an attempt": (b'{"id": "t1", "kind": "noop", "attempt": 1}', "attempt"),
    "a site": (b'{"kind": "noop", "site": "site-b"}', "site"),
    "an unknown kind": (b'{"kind": "no.such.kind"}', "kind"),
    "a NUL": (b'{"kind": "no\\u0000op"}', "kind"),
}


@pytest.mark.parametrize(("payload", "field"), BAD.values(), ids=BAD)
async def test_bad_input_is_answered_and_listed_and_stops_nothing(
    world: World, hub: RunningHub, payload: bytes, field: str
) -> None:
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), payload, asks=True)
        answer = await asker.answer()
        await asker.inject(world.site_topic(), {"id": "good", "kind": "noop"})
        await hub.task("good", state="pending")
    assert answer["outcome"] == "rejected"
    (rejection,) = await hub.rejections()
    assert rejection["problems"][0]["field"] == field
    assert rejection["problems"][0]["message"] in answer["error"]
    assert len(rejection["payload"]) <= 4096


@pytest.mark.parametrize(
    ("suffix", "field"),
    [
        ("sites/Bad Site/tasks", "site"),
        ("sites/a/b/tasks", "topic"),
        ("sites/site-a/task", "topic"),
        ("sites//tasks", "site"),
        ("sites/site-a/workers/W1/tasks", "worker"),
        ("sites/site-a/workers/w1/result", "topic"),
        ("sites", "topic"),
    ],
)
async def test_a_topic_that_is_none_is_answered_and_listed(
    world: World, hub: RunningHub, suffix: str, field: str
) -> None:
    async with world.asker() as asker:
        topic = f"{world.topics.root}/v1/{suffix}"
        await asker.inject(topic, {"id": "t1", "kind": "noop"}, asks=True)
        assert (await asker.answer())["outcome"] == "rejected"
    (rejection,) = await hub.rejections()
    assert (rejection["topic"], rejection["site"], rejection["problems"][0]["field"]) == (topic, None, field)
    assert json.loads(rejection["payload"]) == {"id": "t1", "kind": "noop"}


async def test_a_clashing_id_is_refused_and_the_first_task_goes_on(world: World, hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop", "site": "site-a"})
    async with world.asker() as asker:
        await asker.inject(world.site_topic(), {"id": "t1", "kind": "noop", "params": {"n": 2}}, asks=True)
        answer = await asker.answer()
        assert (answer["outcome"], answer["task"]) == ("rejected", "t1")
        assert answer["error"].startswith("clashing id")
    async with world.worker() as worker:
        assert (await worker.next_assignment()).params == {}


async def test_a_worker_that_took_a_clashing_id_is_told_to_stop(world: World, hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop", "site": "site-b"})
    async with world.worker() as worker:
        injected = Injected(spec=SPEC, via=Via.SITE)
        await worker.report(TaskAccepted(at=now_ms(), task="t1", attempt=1, injected=injected))
        cancel = await worker.next_control(Cancel)
        assert (cancel.task, cancel.attempt, cancel.reason) == ("t1", 1, "clashing id")
    (rejection,) = await hub.rejections()
    assert (rejection["reported_by"], rejection["task"]) == ("w1", "t1")
    assert (await hub.get("/api/tasks/t1"))["state"] == "pending"
