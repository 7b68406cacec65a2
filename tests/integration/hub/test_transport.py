"""Workers that come by HTTP, where MQTT is blocked: the same messages, the same answers (decision 8)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from broker.local import PrivateBroker
from broker.messages import Cancel, Letter, Outcome, Receipt, Sync, TaskAccepted, TaskFinished
from hub import mailboxes
from hub.api.link import MAX_EXCHANGE_BYTES
from hub.dispatch import TICK_SECONDS
from hub.mailboxes import Mailbox
from tests.support.hubs import running_hub, settings_for
from tests.support.links import LinkedWorker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker.messages import Delivered
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub


@pytest.fixture
def no_broker() -> Iterator[PrivateBroker]:
    """A broker that is not there."""
    with PrivateBroker() as broker:
        broker.kill()
        yield broker


@pytest.fixture
def worker(hub: RunningHub) -> LinkedWorker:
    return LinkedWorker(hub)


async def assigned(worker: LinkedWorker) -> list[dict[str, Any]]:
    """Ask until tasks come: the hub assigns them in its own time."""

    async def ask() -> list[dict[str, Any]] | None:
        return worker.tasks(await worker.post()) or None

    return await worker.hub.changes.until(ask)


def accepted(task: str, attempt: int = 1) -> TaskAccepted:
    return TaskAccepted(at=now_ms(), task=task, attempt=attempt)


def finished(task: str, attempt: int = 1, result: Any = None) -> TaskFinished:  # noqa: ANN401
    return TaskFinished(at=now_ms(), task=task, attempt=attempt, outcome=Outcome.SUCCEEDED, result=result)


async def test_a_link_begins_with_the_hubs_status_and_a_hello_is_answered_in_the_same_post(
    hub: RunningHub, worker: LinkedWorker
) -> None:
    letters = await worker.post(worker.birth())
    (status,), (sync,) = worker.hub_status(letters), worker.control(letters)
    assert isinstance(sync, Sync)
    assert (status["state"], sync.session, sync.stream) == ("online", worker.session, worker.stream)
    assert (await hub.get("/api/workers/w1"))["state"] == "online"


async def test_a_task_is_assigned_run_and_told_in_posts(hub: RunningHub, worker: LinkedWorker) -> None:
    await worker.post(worker.birth())
    await hub.post({"id": "t1", "kind": "noop", "params": {"n": 1}})
    (task,) = await assigned(worker)
    assert (task["id"], task["attempt"], task["params"]) == ("t1", 1, {"n": 1})
    letters = await worker.post(worker.batch(1, accepted("t1"), finished("t1", result="done")))
    assert worker.control(letters) == [Receipt(stream=worker.stream, through=2)]
    shown = await hub.get("/api/tasks/t1")
    assert (shown["state"], shown["result"], shown["worker"]) == ("succeeded", "done", "w1")


async def test_a_batch_that_is_posted_twice_counts_once_and_has_two_receipts(
    hub: RunningHub, worker: LinkedWorker
) -> None:
    await worker.post(worker.birth())
    await hub.post({"id": "t1", "kind": "noop"})
    await assigned(worker)
    batch = worker.batch(1, accepted("t1"), finished("t1"))
    for _ in range(2):
        assert worker.control(await worker.post(batch)) == [Receipt(stream=worker.stream, through=2)]
    assert len((await hub.get("/api/tasks/t1"))["attempts"]) == 1


async def test_what_was_delivered_comes_again_until_it_is_acknowledged(hub: RunningHub, worker: LinkedWorker) -> None:
    first = await worker.post(worker.birth())
    worker.received = 0  # as if the answer had been lost
    assert await worker.post() == first
    assert [one.number for one in first] == [1, 2]
    assert await worker.post() == []
    await hub.post({"id": "t1", "kind": "noop"})
    assert [one["id"] for one in await assigned(worker)] == ["t1"]
    assert worker.received == 3


async def test_a_superseded_attempt_is_cancelled_by_letter(hub: RunningHub, worker: LinkedWorker) -> None:
    await worker.post(worker.birth())
    await hub.post({"id": "t1", "kind": "noop"})
    await assigned(worker)
    await worker.post(worker.batch(1, accepted("t1"), finished("t1")))
    (receipt, cancel) = worker.control(await worker.post(worker.batch(3, accepted("t1"))))
    assert isinstance(receipt, Receipt)
    assert isinstance(cancel, Cancel)
    assert (cancel.task, cancel.attempt) == ("t1", 1)


async def test_a_silent_link_publishes_its_will(hub: RunningHub, worker: LinkedWorker) -> None:
    worker.silent_after_seconds = 0.6
    await worker.post(worker.birth())
    assert (await hub.worker("w1", state="offline"))["reason"] == "connection_lost"
    answer = await worker.send()
    assert (answer.status_code, answer.json()["problems"][0]["field"]) == (410, "link")


async def test_who_leaves_in_order_leaves_no_will(hub: RunningHub, worker: LinkedWorker) -> None:
    await worker.post(worker.birth())
    await worker.post(leave=True)
    assert (await hub.get("/api/workers/w1"))["state"] == "online"  # it has not said that it stops: MQTT may go on
    assert (await worker.send()).status_code == 410


async def test_a_new_hub_does_not_know_the_link_and_the_next_one_brings_what_should_be_held(world: World) -> None:
    async with world.hub() as first:
        worker = LinkedWorker(first)
        await worker.post(worker.birth())
    async with world.hub() as second:
        worker.hub = second
        assert (await second.get("/api/workers/w1"))["state"] == "suspect"
        assert (await worker.send(worker.beat())).status_code == 410
        worker.link, worker.received = None, 0
        letters = await worker.post(worker.birth())
        assert len(worker.control(letters)) == 1
        await second.post({"id": "t1", "kind": "noop"})
        assert [one["id"] for one in await assigned(worker)] == ["t1"]


async def test_a_second_link_ends_the_first(hub: RunningHub, worker: LinkedWorker) -> None:
    await worker.post(worker.birth())
    again = LinkedWorker(hub)
    await again.post(again.birth())
    assert (await worker.send()).status_code == 410
    assert (await hub.get("/api/workers/w1"))["state"] == "online"


async def test_a_worker_that_is_back_on_mqtt_is_sent_its_tasks_there(world: World, hub: RunningHub) -> None:
    by_http = LinkedWorker(hub)
    await by_http.post(by_http.birth())
    async with world.worker() as by_mqtt:
        await by_http.post(leave=True)
        await hub.post({"id": "t1", "kind": "noop"})
        assert (await by_mqtt.next_assignment()).id == "t1"


async def test_a_full_mailbox_ends_its_link_and_the_next_hello_brings_the_rest(
    hub: RunningHub, worker: LinkedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker.post(worker.birth())
    monkeypatch.setattr(mailboxes, "MAX_BYTES", 1000)
    await hub.post({"id": "t1", "kind": "noop", "params": {"long": 2000 * "x"}})
    await hub.until(lambda: shown_as(hub, "t1", "assigned"))
    assert (await worker.send()).status_code == 200
    assert (await worker.send()).status_code == 410


async def shown_as(hub: RunningHub, task: str, state: str) -> dict[str, Any] | None:
    shown = await hub.get(f"/api/tasks/{task}")
    return shown if shown["state"] == state else None


async def test_replies_are_passed_on_to_who_asked(world: World, worker: LinkedWorker) -> None:
    async with world.asker() as asker:
        reply = Letter(topic=asker.reply_topic, payload='{"outcome": "succeeded"}', correlation="aGk=")
        await worker.post(worker.birth(), reply)
        assert await asker.answer() == {"outcome": "succeeded", "correlation": b"hi"}


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic", ["sites/site-a/tasks", "sites/site-a/workers/w2/status", "sites/site-b/workers/w1/events", "hub/status"]
)
async def test_a_letter_on_a_topic_that_is_not_the_workers_own_is_refused(
    hub: RunningHub, worker: LinkedWorker, topic: str
) -> None:
    letter = Letter(topic=f"{hub.settings.root}/v1/{topic}", payload="{}")
    answer = await worker.send(worker.birth(), letter)
    assert (answer.status_code, answer.json()["problems"][0]["field"]) == (422, "publish[1].topic")
    assert (await hub.get("/api/workers"))["items"] == []  # nothing of the post was handled


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"publish": [{"topic": "nonsense", "payload": ""}]}, "publish[0].topic"),
        ({"publish": [{"topic": "x"}]}, "publish[0].payload"),
        ({"worker": "Not A Name"}, "worker"),
        ({"silent_after_seconds": 0}, "silent_after_seconds"),
        ({"recieved": 1}, "recieved"),
        ({"received": -1}, "received"),
        ({"will": {"topic": "{root}/v1/sites/site-a/workers/w1/events", "payload": "{}"}}, "will.topic"),
        ({"will": {"topic": "{root}/v1/sites/site-a/workers/w2/status", "payload": "{}"}}, "will.topic"),
        (
            {"publish": [{"topic": "{root}/v1/replies/x", "payload": "{}", "correlation": "é"}]},
            "publish[0].correlation",
        ),
    ],
)
async def test_a_bad_post_is_refused_with_the_field_that_is_wrong(
    hub: RunningHub, changed: dict[str, Any], field: str
) -> None:
    text = json.dumps({"site": "site-a", "worker": "w1", **changed}).replace("{root}", hub.settings.root)
    answer = await hub.http.post("/api/link", content=text)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["problems"][0]["field"] == field


async def test_a_post_that_is_too_large_is_refused(hub: RunningHub) -> None:
    answer = await hub.http.post("/api/link", content=b" " * (MAX_EXCHANGE_BYTES + 1))
    assert answer.status_code == 413


async def test_another_worker_cannot_use_the_link(hub: RunningHub, worker: LinkedWorker) -> None:
    await worker.post(worker.birth())
    thief = LinkedWorker(hub, id="w2", link=worker.link)
    assert (await thief.send()).status_code == 410


async def test_a_letter_that_cannot_be_understood_stops_nothing(hub: RunningHub, worker: LinkedWorker) -> None:
    bad = [worker.beat().model_copy(update={"payload": payload}) for payload in ("", "nonsense", "[]", "null")]
    letters = await worker.post(*bad, worker.birth())
    assert len(worker.control(letters)) == 1
    assert (await hub.get("/api/workers/w1"))["state"] == "online"


# -- with no broker ---------------------------------------------------------------------------------------------------


async def test_with_no_broker_at_all_a_task_is_placed_run_and_told(tmp_path: Path, no_broker: PrivateBroker) -> None:
    async with running_hub(settings_for(no_broker.url, tmp_path), linked=False) as hub:
        worker = LinkedWorker(hub)
        await worker.post(worker.birth())
        await hub.post({"id": "t1", "kind": "noop"})
        (task,) = await assigned(worker)
        await worker.post(worker.batch(1, accepted(task["id"]), finished(task["id"])))
        assert (await hub.get("/api/tasks/t1"))["state"] == "succeeded"


async def test_with_no_broker_at_all_silence_is_judged(tmp_path: Path, no_broker: PrivateBroker) -> None:
    async with running_hub(settings_for(no_broker.url, tmp_path), linked=False) as hub:
        worker = LinkedWorker(hub)
        await worker.post(worker.birth(heartbeat_interval_seconds=0.5))
        assert (await hub.worker("w1", state="offline"))["reason"] == "heartbeat_missed"


async def test_a_broker_that_goes_leaves_who_comes_by_http_online(tmp_path: Path) -> None:
    with PrivateBroker() as broker:
        async with running_hub(settings_for(broker.url, tmp_path)) as hub:
            worker = LinkedWorker(hub)
            await worker.post(worker.birth())
            broker.kill()
            await hub.until(lambda: degraded(hub))
            assert (await hub.get("/api/workers/w1"))["state"] == "online"


async def degraded(hub: RunningHub) -> dict[str, Any] | None:
    await asyncio.sleep(TICK_SECONDS / 10)
    health = await hub.get("/health")
    hub.changes.wake()
    return health if health["status"] == "degraded" else None


# -- the mailbox ------------------------------------------------------------------------------------------------------


def numbers(letters: list[Delivered]) -> list[int]:
    return [letter.number for letter in letters]


def test_a_mailbox_hands_out_so_much_at_a_time_but_always_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAX_DELIVERY_BYTES", 10)
    box = Mailbox()
    for size in (20, 5, 5, 1):
        box.put("topic", b"x" * size)
    assert numbers(list(box.waiting())) == [1]
    box.acknowledge(1)
    assert numbers(list(box.waiting())) == [2, 3]
    box.acknowledge(3)
    assert numbers(list(box.waiting())) == [4]
    box.acknowledge(99)
    assert numbers(list(box.waiting())) == []
    assert not box.overflown
