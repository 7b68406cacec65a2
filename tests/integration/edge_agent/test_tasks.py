"""Tasks, from a tasks topic to their end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from broker.messages import MAX_MESSAGE_BYTES, Assignment, Outcome, TaskRequest, Via
from broker.topics import Reply, SiteTasks
from edge_agent import Agent, TaskContext, intake

if TYPE_CHECKING:
    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio


async def test_a_task_of_the_site_runs_and_is_reported(stage: Stage) -> None:
    async with stage.synced():
        await stage.hub.inject({"id": "t1", "kind": "noop", "params": {"a": [1, None]}})
        end = await stage.hub.ended("t1")
    assert (end.outcome, end.result, end.attempt) == (Outcome.SUCCEEDED, {"a": [1, None]}, 1)
    injected = stage.hub.accepted()["t1"].injected
    assert injected
    assert (injected.via, injected.spec.kind) == (Via.SITE, "noop")


async def test_without_any_hub_a_task_runs_and_a_later_hub_hears_of_it(stage: Stage) -> None:
    async with stage.agent() as app:
        await stage.hub.publish(SiteTasks(stage.site), {"id": "alone", "kind": "noop"})
        while app.journal.newest < 3:  # accepted, started, finished
            app.journal.grown.clear()
            await app.journal.grown.wait()
        assert stage.hub.batches() == []
        await stage.hub.come_online()
        await stage.hub.sync(app.name.worker)
        assert (await stage.hub.ended("alone")).outcome is Outcome.SUCCEEDED


async def test_two_workers_share_a_hundred_tasks_and_each_runs_once(stage: Stage) -> None:
    async with stage.synced("a"), stage.synced("b"):
        for number in range(100):
            await stage.hub.inject({"id": f"t{number}", "kind": "noop"})
        await stage.hub.until(lambda: len(stage.hub.finished()) == 100)
        first, second = stage.hub.finished(f"{stage.site}-a"), stage.hub.finished(f"{stage.site}-b")
    assert first
    assert second
    assert not first.keys() & second.keys()


async def test_an_array_of_assignments_is_taken(stage: Stage) -> None:
    async with stage.synced() as app:
        many = [Assignment(id=f"t{number}", kind="noop", attempt=2) for number in range(50)]
        await stage.hub.inject_to(
            app.name.worker, [json.loads(one.model_dump_json(exclude_defaults=True)) for one in many]
        )
        await stage.hub.until(lambda: len(stage.hub.finished()) == 50)
    assert {one.attempt for one in stage.hub.finished().values()} == {2}
    assert all(one.injected is None for one in stage.hub.accepted().values())


async def test_an_attempt_runs_once_and_a_higher_one_runs_again(stage: Stage) -> None:
    runs: list[int] = []
    agent = Agent()

    @agent.task("count")
    async def count(ctx: TaskContext) -> None:
        runs.append(ctx.attempt)

    async with stage.synced(agents=[agent]) as app:
        for attempt in (1, 1, 2, 1, 2):
            await stage.hub.inject_to(app.name.worker, {"id": "t", "kind": "count", "attempt": attempt})
        await stage.hub.inject_to(app.name.worker, {"id": "last", "kind": "noop", "attempt": 1})
        await stage.hub.ended("last")
    async with stage.synced(agents=[agent]) as app:
        await stage.hub.inject_to(app.name.worker, {"id": "t", "kind": "count", "attempt": 2})
        await stage.hub.inject_to(app.name.worker, {"id": "after", "kind": "noop", "attempt": 1})
        await stage.hub.ended("after")
    assert runs == [1, 2]


async def test_a_repeated_task_is_ignored_and_another_with_its_id_is_rejected(stage: Stage) -> None:
    async with stage.synced():
        for params in ({"a": 1}, {"a": 1}, {"a": 2}):
            await stage.hub.inject({"id": "same", "kind": "noop", "params": params})
        rejected = (await stage.hub.until(stage.hub.rejected))[0]
    assert "clashing id" in rejected.reason
    assert rejected.task == "same"
    assert len(stage.hub.accepted()) == 1


BAD: list[tuple[str, bytes, str]] = [
    ("not JSON", b"{", "message"),
    ("a text", b'"noop"', "message"),
    ("a number", b"5", "message"),
    ("nothing", b"", "message"),
    ("null", b"null", "message"),
    ("invalid UTF-8", b'{"kind": "\xff"}', "message"),
    ("an empty array", b"[]", "message"),
    ("arrays of arrays", b'[[{"kind":"noop"}]]', "[0]"),
    ("no kind", b"{}", "kind"),
    ("an unknown field", b'{"kind":"noop","timeout_secs":3}', "timeout_secs"),
    ("a wrong type", b'{"kind":"noop","priority":"high"}', "priority"),
    ("a number in quotes", b'{"kind":"noop","timeout_seconds":"3"}', "timeout_seconds"),
    ("a negative limit", b'{"kind":"noop","timeout_seconds":-1}', "timeout_seconds"),
    ("NaN", b'{"kind":"noop","timeout_seconds":NaN}', "timeout_seconds"),
    ("an attempt", b'{"id":"x","kind":"noop","attempt":1}', "attempt"),
    ("an id of spaces", b'{"id":"a b","kind":"noop"}', "id"),
    ("a kind in capitals", b'{"kind":"NOOP"}', "kind"),
    ("params that are no object", b'{"kind":"noop","params":[1]}', "params"),
    ("wrong params", b'{"kind":"sleep","params":{"seconds":"1"}}', "params.seconds"),
    ("missing params", b'{"kind":"sleep"}', "params.seconds"),
    ("unknown params", b'{"kind":"sleep","params":{"seconds":1,"x":1}}', "params.x"),
    ("an unknown target", b'{"kind":"noop","target":"some"}', "target"),
    ("an impossible requirement", b'{"kind":"noop","requires":{"a":[1]}}', "requires.a"),
    ("1 MiB", b'{"kind":"noop","params":{"x":"' + b"x" * 1024 * 1024 + b'"}}', "message"),
]


@pytest.mark.parametrize(("payload", "field"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_bad_input_is_rejected_by_name_and_the_next_good_task_runs(
    stage: Stage, payload: bytes, field: str
) -> None:
    async with stage.synced():
        await stage.hub.inject(payload)
        await stage.hub.inject({"id": "good", "kind": "noop"})
        assert (await stage.hub.ended("good")).outcome is Outcome.SUCCEEDED
        rejected = stage.hub.rejected()
    assert len(rejected) == 1
    assert field in [problem.field for problem in rejected[0].problems]
    assert len(rejected[0].payload) <= 1024 * 4


async def test_a_bad_element_does_not_stop_the_good_ones_of_its_array(stage: Stage) -> None:
    async with stage.synced():
        await stage.hub.inject(
            [
                {"id": "one", "kind": "noop"},
                {"id": "two", "kind": "noop", "timeout_seconds": -1},
                {"id": "three", "kind": "sleep", "params": {"seconds": -5}},
                {"id": "four", "kind": "noop"},
            ]
        )
        await stage.hub.ended("four")
        await stage.hub.ended("one")
        rejected = stage.hub.rejected()
    assert [one.problems[0].field for one in rejected] == ["[1].timeout_seconds", "[2].params.seconds"]
    assert [one.task for one in rejected] == ["two", "three"]


async def test_a_queue_that_is_full_is_a_reason_of_the_moment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "QUEUED_PER_SLOT", 1)
    async with stage.synced(slots=1):
        sleep = {"kind": "sleep", "params": {"seconds": 600}}
        await stage.hub.inject([{"id": "runs", **sleep}])
        await stage.hub.until(lambda: "runs" in stage.hub.accepted())
        await stage.hub.inject([{"id": "waits", **sleep}])
        await stage.hub.until(lambda: "waits" in stage.hub.accepted())
        await stage.hub.inject([{"id": "too-much", **sleep}])
        declined = (await stage.hub.until(stage.hub.declined))["too-much"]
        assert (declined.busy, declined.reason) == (True, "no room: the queue is full")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ({"kind": "container", "params": {"image": "x"}}, "container does not run here"),
        ({"kind": "nosuchkind"}, "nosuchkind does not run here"),
        ({"kind": "noop", "requires": {"docker": True}}, "docker is missing, expected true"),
        ({"kind": "noop", "target": "all"}, "target"),
        ({"kind": "sleep", "params": {"seconds": -1}, "target": "all"}, "target"),
        (
            {"kind": "command", "params": {"argv": ["rm", "-rf", "/"]}},
            "WORKER_ALLOW_COMMANDS does not allow 'rm -rf /'",
        ),
    ],
)
async def test_what_cannot_run_here_is_declined_with_the_whole_task(
    stage: Stage, task: dict[str, Any], reason: str
) -> None:
    async with stage.synced(allow_commands=["true"]):
        await stage.hub.inject({"id": "t", **task})
        declined = (await stage.hub.until(stage.hub.declined))["t"]
    assert reason in declined.reason
    assert declined.injected
    assert declined.injected.spec == TaskRequest.model_validate_json(json.dumps(task)).spec()


async def test_an_assignment_with_impossible_params_has_failed(stage: Stage) -> None:
    async with stage.synced() as app:
        await stage.hub.inject_to(app.name.worker, {"id": "t", "kind": "sleep", "params": {}, "attempt": 3})
        end = await stage.hub.ended("t")
    assert end.outcome is Outcome.FAILED
    assert end.error == "params.seconds is missing: expected a value"


async def test_the_result_is_published_on_the_response_topic(stage: Stage) -> None:
    async with stage.agent():  # no hub
        topic = stage.hub.topics.build(Reply(f"{stage.site}/me"))
        for payload in (b'{"id":"q","kind":"noop","params":{"a":1}}', b'{"kind":"noop","x":1}'):
            await ask(stage, payload, topic, b"\x00\xff")
        await stage.hub.until(lambda: len(stage.hub.replies(f"{stage.site}/me")) == 2)
        replies = stage.hub.replies(f"{stage.site}/me")
    by_outcome = {reply["outcome"]: (reply, correlation) for reply, correlation in replies}
    assert by_outcome["succeeded"][0] == {"task": "q", "outcome": "succeeded", "result": {"a": 1}}
    assert "x is 1: there is no such field" in by_outcome["rejected"][0]["error"]
    assert {correlation for _, correlation in replies} == {b"\x00\xff"}


async def test_a_response_topic_elsewhere_is_rejected(stage: Stage) -> None:
    async with stage.synced():
        await ask(stage, b'{"id":"q","kind":"noop"}', stage.hub.topics.build(SiteTasks(stage.site)), None)
        rejected = (await stage.hub.until(stage.hub.rejected))[0]
    assert rejected.problems[0].field == "response topic"
    assert stage.hub.accepted() == {}


async def test_a_result_that_is_too_large_is_a_failure(stage: Stage) -> None:
    agent = Agent()

    @agent.task("flood")
    async def flood(_ctx: TaskContext) -> str:
        return "x" * (MAX_MESSAGE_BYTES + 1)

    async with stage.synced(agents=[agent]):
        await stage.hub.inject({"id": "t", "kind": "flood"})
        end = await stage.hub.ended("t")
    assert end.outcome is Outcome.FAILED
    assert "bytes long: expected at most 262144" in (end.error or "")


async def ask(stage: Stage, payload: bytes, topic: str, correlation: bytes | None) -> None:
    """Publish a task with a response topic, which only askers do."""
    await stage.hub.connection.publish(
        stage.hub.topics.build(SiteTasks(stage.site)), payload, reply_topic=topic, correlation=correlation
    )
