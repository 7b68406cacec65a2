"""Hellos and what follows: wrong clocks, long histories, events that cannot be read (DESIGN §5, §6)."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from broker.messages import (
    Batch,
    ClockSample,
    Credit,
    Dropped,
    Gap,
    Injected,
    JournalDepth,
    Outcome,
    Receipt,
    Sync,
    TaskAccepted,
    TaskFinished,
    TaskSpec,
    TaskStarted,
    Via,
    WorkerStarted,
    encode,
)
from broker.topics import Events
from hub import greeting
from hub.rules import pacing
from hub.rules.pacing import BATCH_EVENTS
from tests.support.workers import soon

if TYPE_CHECKING:
    from broker.messages import AnyEvent
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub
    from tests.support.workers import ScriptedWorker

HOUR_MS = 3_600_000
LARGEST_ERROR_MS = 2_000
"""What a hello takes on a busy machine."""


def milliseconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


# -- clocks ----------------------------------------------------------------------------------------------------------


async def measure(worker: ScriptedWorker, ahead_ms: int, boot: str = "b1") -> None:
    """Say hello with a clock that is ahead of the hub's, and tell when the answer was heard."""
    sync = await worker.hello(at=now_ms() + ahead_ms, boot=boot)
    assert sync.clock is not None
    heard = ClockSample(
        boot=boot,
        sent_at=sync.clock.sent_at,
        received_at=sync.clock.received_at,
        answered_at=sync.clock.answered_at,
        heard_at=now_ms() + ahead_ms,
    )
    await worker.beat(clock=heard)


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
async def test_times_of_a_clock_that_is_an_hour_off_are_right_within_the_error_that_is_shown(
    world: World, hub: RunningHub, ahead_ms: int
) -> None:
    async with world.worker() as worker:
        await measure(worker, ahead_ms)
        await worker.report(WorkerStarted(at=now_ms() + ahead_ms, boot="b1"))
        await hub.post({"id": "t1", "kind": "noop"})
        await worker.next_assignment()
        before = now_ms()
        ref: dict[str, Any] = {"task": "t1", "attempt": 1}
        events: list[AnyEvent] = [
            TaskAccepted(at=now_ms() + ahead_ms, **ref),
            TaskStarted(at=now_ms() + ahead_ms, **ref),
        ]
        events.append(TaskFinished(at=now_ms() + ahead_ms, outcome=Outcome.SUCCEEDED, **ref))
        after = now_ms()
        await worker.report(*events)
        task = await hub.ended("t1")
        clock = (await hub.get("/api/workers/w1"))["clock"]
    attempt = task["attempts"][0]
    assert clock["offset_ms"] == pytest.approx(-ahead_ms, abs=clock["error_ms"])
    assert 0 < attempt["error_ms"] < LARGEST_ERROR_MS
    for name in ("accepted_at", "started_at", "finished_at"):
        assert before - attempt["error_ms"] <= milliseconds(attempt[name]) <= after + attempt["error_ms"]
    assert [one["event"] for one in task["timeline"]] == ["created", "assigned", "accepted", "started", "succeeded"]


async def test_since_when_a_journal_waits_is_by_the_hubs_clock(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await measure(worker, HOUR_MS)
        oldest = now_ms()
        await worker.beat(journal=JournalDepth(rows=3, bytes=300, oldest_at=oldest + HOUR_MS))
        await worker.hello(at=now_ms() + HOUR_MS)  # answered after the heartbeat was taken
        shown = await hub.get("/api/workers/w1")
    assert (shown["journal"]["rows"], shown["journal"]["bytes"]) == (3, 300)
    assert milliseconds(shown["journal"]["oldest_at"]) == pytest.approx(oldest, abs=shown["clock"]["error_ms"])


async def test_each_boot_of_a_stream_is_told_by_its_own_clock(world: World, hub: RunningHub) -> None:
    """The journal of a worker that met the hub in its second run: of the first the hub knows no clock."""

    def run(task: str, at: int) -> list[AnyEvent]:
        injected = Injected(spec=TaskSpec(kind="noop"), via=Via.SITE)
        return [
            TaskAccepted(at=at, task=task, attempt=1, injected=injected),
            TaskFinished(at=at, task=task, attempt=1, outcome=Outcome.SUCCEEDED),
        ]

    async with world.worker() as worker:
        await measure(worker, HOUR_MS, boot="second")
        now = now_ms()
        await worker.report(
            WorkerStarted(at=1000, boot="first"),
            *run("early", 2000),
            WorkerStarted(at=now + HOUR_MS, boot="second"),
            *run("late", now + HOUR_MS),
        )
        early, late = (await hub.ended("early"))["attempts"][0], (await hub.ended("late"))["attempts"][0]
        await worker.report(*run("later", now_ms() + HOUR_MS))  # the boot of the mark is remembered
        later = (await hub.ended("later"))["attempts"][0]
    assert (early["error_ms"], milliseconds(early["finished_at"])) == (None, 2000)
    assert milliseconds(late["finished_at"]) == pytest.approx(now, abs=late["error_ms"])
    assert later["error_ms"] is not None


async def test_clocks_outlive_the_hub(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.hub() as hub:
            await measure(worker, HOUR_MS)
            await worker.report(WorkerStarted(at=now_ms() + HOUR_MS, boot="b1"))
            before = (await hub.get("/api/workers/w1"))["clock"]
        async with world.hub() as hub:
            after = (await hub.get("/api/workers/w1"))["clock"]
    assert after["offset_ms"] == before["offset_ms"]
    assert before["error_ms"] <= after["error_ms"] < LARGEST_ERROR_MS


# -- what cannot be read, and what is missing ------------------------------------------------------------------------


async def test_an_event_of_a_newer_agent_does_not_stop_the_journal(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        ref = {"at": now_ms(), "task": "t1", "attempt": 1}
        spec = {"spec": {"kind": "noop"}, "via": "site"}
        events = [
            {"type": "task.accepted", **ref, "injected": spec},
            {"type": "task.paused", **ref},
            {"type": "task.finished", **ref, "outcome": "succeeded"},
        ]
        payload = json.dumps({"stream": worker.stream, "first": 1, "events": events}).encode()
        await worker.publish(Events(worker.site, worker.id), payload)
        assert await worker.next_control(Receipt) == Receipt(stream=worker.stream, through=3)
        assert (await hub.ended("t1"))["state"] == "succeeded"
        (gap,) = (await hub.get("/api/gaps"))["items"]
        assert (gap["worker"], gap["site"], gap["dropped"], gap["count"]) == ("w1", "site-a", "unreadable", 1)
        assert "task.paused" in gap["reason"]
        assert await hub.rejections() == []


async def test_a_payload_that_is_no_batch_is_a_rejection_and_moves_nothing(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        for payload in (b"nonsense", b'{"stream": "s"}'):
            await worker.publish(Events(worker.site, worker.id), payload)
        receipt = await worker.report(WorkerStarted(at=1, boot="b1"))
        assert receipt.through == 1
        assert len(await hub.rejections()) == 2


async def test_gaps_are_listed_newest_first_by_worker_and_page(world: World, hub: RunningHub) -> None:
    def gap(number: int) -> Gap:
        return Gap(at=number, dropped=Dropped.FACTS, count=number, first_at=1, last_at=2, reason=f"number {number}")

    async with world.worker("w1") as one, world.worker("w2", site="site-b") as two:
        await one.report(gap(1), gap(2), gap(3))
        await two.report(Gap(at=9, dropped=Dropped.EVERYTHING, reason="nobody knows"))
    first = await hub.get("/api/gaps", limit=2)
    rest = await hub.get("/api/gaps", limit=2, cursor=first["next"])
    assert [one["reason"] for one in (*first["items"], *rest["items"])] == ["nobody knows", *map(reason, (3, 2, 1))]
    assert first["items"][0]["count"] is first["items"][0]["first_at"] is None
    assert [one["count"] for one in (await hub.get("/api/gaps", worker="w1"))["items"]] == [3, 2, 1]
    assert (first["items"][1]["first_at"], rest["next"]) == ("1970-01-01T00:00:00.001Z", None)


def reason(number: int) -> str:
    return f"number {number}"


async def test_a_batch_behind_rows_that_are_gone_is_taken(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await worker.report(WorkerStarted(at=1, boot="b1"))
        facts = tuple(Gap(at=1, dropped=Dropped.FACTS, reason="x") for _ in range(2))
        batch = Batch(stream=worker.stream, first=5, after=1, numbers=(5, 9), events=facts)
        await worker.publish(Events(worker.site, worker.id), encode(batch))
        assert (await worker.next_control(Receipt)).through == 9
        assert len((await hub.get("/api/gaps"))["items"]) == 2


# -- history ---------------------------------------------------------------------------------------------------------


def history(worker: ScriptedWorker, batches: int) -> dict[str, Any]:
    return {"journal": {"stream": worker.stream, "oldest": 1, "newest": batches * BATCH_EVENTS, "settled": 0}}


async def drain(worker: ScriptedWorker, sync: Sync, batches: int, most: list[int]) -> None:
    """Send a history as the hub gives credit for it, until there is no limit any more."""
    credit, receipts, sent = sync.credit, 0, 0
    assert credit is not None
    while credit is not None:
        while credit and sent < batches:
            first = sent * BATCH_EVENTS + 1
            events = tuple(WorkerStarted(at=1, boot="b1") for _ in range(BATCH_EVENTS))
            sent, credit = sent + 1, credit - 1
            most[0] += 1
            most[1] = max(most)
            await worker.send(first, *events)
        message = await soon(worker.control.get())
        if isinstance(message, Receipt):
            receipts += 1
            most[0] -= 1
        elif isinstance(message, Credit):
            credit = None if message.batches is None else credit + message.batches
    assert (sent, receipts) == (batches, batches)


async def test_histories_wait_for_their_turn_and_what_is_new_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, batches, names = 5, 6, [f"h{number}" for number in range(6)]
    monkeypatch.setattr(greeting, "Pacing", lambda: pacing.Pacing(budget=budget, share=2))
    under_way = [0, 0]
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(world.hub())
        workers = [await stack.enter_async_context(world.worker(name, greets=False)) for name in names]
        syncs = [await worker.hello(**history(worker, batches)) for worker in workers]
        assert [sync.credit for sync in syncs] == [2, 2, 1, 0, 0, 0]
        shown = (await hub.get("/api/workers"))["items"]
        assert [one["state"] for one in shown] == 6 * ["online"]  # before any of the history has come

        live = await stack.enter_async_context(world.worker("live", site="site-b"))
        async with asyncio.TaskGroup() as group:
            draining = [
                group.create_task(drain(worker, sync, batches, under_way))
                for worker, sync in zip(workers, syncs, strict=True)
            ]
            await hub.post({"id": "now", "kind": "noop", "site": "site-b"})
            await live.run(await live.next_assignment())
            assert (await hub.ended("now"))["state"] == "succeeded"
            assert not all(task.done() for task in draining)
    # A receipt and the credit for another are on their way at one time; without a limit there would be 24 and more.
    assert under_way[0] == 0
    assert budget <= under_way[1] <= 2 * budget


async def test_a_short_history_comes_as_it_likes(world: World, hub: RunningHub) -> None:
    async with world.worker(greets=False) as worker:
        assert (await worker.hello(**history(worker, 1))).credit is None
        assert (await worker.hello(**history(worker, 2))).credit == pacing.SHARE_BATCHES
    assert (await hub.worker("w1"))["state"] in ("online", "offline")


async def test_the_credit_of_a_worker_that_dies_goes_to_who_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "Pacing", lambda: pacing.Pacing(budget=2, share=2))
    async with world.hub(), world.worker("dies", greets=False) as dies, world.worker("waits", greets=False) as waits:
        assert (await dies.hello(**history(dies, 3))).credit == 2
        assert (await waits.hello(**history(waits, 3))).credit == 0
        dies.die()
        assert await waits.next_control(Credit) == Credit(batches=2)
