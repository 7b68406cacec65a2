"""The two connections: birth, will and farewell, hello and sync, receipts, and what is sent again."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from broker.clock import new_id
from broker.errors import LinkDown
from broker.link import Link
from broker.messages import (
    Cancel,
    ClockEcho,
    Dropped,
    Farewell,
    Gap,
    Outcome,
    Renew,
    TaskAccepted,
    TaskRef,
)
from broker.topics import Control, Events, Heartbeat, Status, WorkerTasks
from edge_agent.rules import flow, handshake

if TYPE_CHECKING:
    from edge_agent.app import App
    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio


async def grown_to(app: App, newest: int) -> None:
    while app.journal.newest < newest:
        app.journal.grown.clear()
        await app.journal.grown.wait()


async def test_the_birth_says_what_the_worker_is_and_a_stop_says_stopped(stage: Stage) -> None:
    async with stage.agent(capabilities={"camera": True}, slots=2) as app:
        await stage.hub.until(lambda: stage.hub.heartbeats(app.name.worker))
    birth = stage.hub.births(app.name.worker)[0]
    assert (birth.capabilities["camera"], birth.slots, birth.kinds) == (True, 2, ("noop", "sleep"))
    await stage.hub.until(lambda: len(stage.hub.statuses(app.name.worker)) == 2)
    assert stage.hub.statuses(app.name.worker)[1] == {"state": "stopped", "session": birth.session}
    heartbeat = stage.hub.heartbeats(app.name.worker)[0]
    assert heartbeat.session == birth.session
    assert heartbeat.memory_bytes > 0


async def test_a_late_will_of_an_old_session_is_healed(stage: Stage) -> None:
    async with stage.agent() as app:
        worker = app.name.worker
        await stage.hub.until(lambda: stage.hub.births(worker))
        will = Farewell(state="offline", session="an-old-session")
        await stage.hub.publish(Status(stage.site, worker), will, retain=True)
        await stage.hub.until(lambda: len(stage.hub.births(worker)) == 2)
        assert stage.hub.births(worker)[0].session == stage.hub.births(worker)[1].session


async def test_nothing_is_sent_before_a_sync_and_nothing_goes_before_its_receipt(stage: Stage) -> None:
    stage.hub.receipts = False
    async with stage.agent() as app:
        worker = app.name.worker
        await stage.hub.inject({"id": "t", "kind": "noop"})
        await grown_to(app, 4)  # that it was started, and the task's three
        await stage.hub.come_online()
        await stage.hub.until(lambda: len(stage.hub.births(worker)) == 2)  # hello to the new hub
        assert stage.hub.batches(worker) == []
        await stage.hub.sync(worker)
        await stage.hub.ended("t")
        assert app.journal.depth.rows == 4
        await stage.hub.receipt(worker, 2)
        await stage.hub.receipt(worker, 4)
        await flushed(app)
        assert app.journal.position.oldest == 5


async def test_a_batch_without_a_receipt_is_sent_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "RECEIPT_TIMEOUT_SECONDS", 0.1)
    stage.hub.receipts = False
    async with stage.synced() as app:
        await stage.hub.inject({"id": "t", "kind": "noop"})
        await stage.hub.until(lambda: sum(event.type == "task.finished" for event in stage.hub.events()) > 2)
        batches = stage.hub.batches(app.name.worker)
        by_number = {batch.first: batch.events[0] for batch in batches}
        assert all(by_number[batch.first] == batch.events[0] for batch in batches)
        assert app.journal.depth.rows == 4
        stage.hub.receipts = True
        await asyncio.wait_for(flushed(app), 10)


async def flushed(app: App) -> None:
    while app.journal.depth.rows:
        await app.database.commit(lambda _: None)


async def test_hello_is_repeated_until_the_hub_answers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HELLO_SECONDS", 0.05)
    async with stage.agent() as app:
        await stage.hub.come_online()
        await stage.hub.until(lambda: len(stage.hub.births(app.name.worker)) >= 4)
        await stage.hub.sync(app.name.worker)


async def test_a_new_hub_is_told_hello_and_gets_what_the_old_one_did_not_commit(stage: Stage) -> None:
    stage.hub.receipts = False
    async with stage.synced() as app:
        worker = app.name.worker
        await stage.hub.inject({"id": "t", "kind": "noop"})
        await stage.hub.ended("t")
        births = len(stage.hub.births(worker))
        await stage.hub.go_offline()
        await stage.hub.come_online()
        await stage.hub.until(lambda: len(stage.hub.births(worker)) > births)
        stage.hub.seen.clear()
        stage.hub.receipts = True
        birth = app.journal.position
        await stage.hub.come_online()
        assert birth.oldest == 1


async def test_what_the_sync_drops_is_stopped_and_what_it_sends_is_taken(stage: Stage) -> None:
    async with stage.agent() as app:
        await stage.hub.inject({"id": "long", "kind": "sleep", "params": {"seconds": 600}})
        await grown_to(app, 2)
        await stage.hub.come_online()
        await stage.hub.until(lambda: any(birth.held for birth in stage.hub.births(app.name.worker)))
        assert stage.hub.births(app.name.worker)[-1].held == (TaskRef(task="long", attempt=1),)
        await stage.hub.sync(
            app.name.worker,
            drop=(TaskRef(task="long", attempt=1),),
            send=({"id": "sent", "kind": "noop", "attempt": 4},),
        )
        assert (await stage.hub.ended("long")).outcome is Outcome.CANCELLED
        assert (await stage.hub.ended("sent")).attempt == 4


async def test_a_cancel_stops_what_runs_and_what_waits(stage: Stage) -> None:
    async with stage.synced(slots=1) as app:
        sleep = {"kind": "sleep", "params": {"seconds": 600}}
        await stage.hub.inject([{"id": "runs", **sleep}, {"id": "waits", **sleep}])
        await stage.hub.until(lambda: len(stage.hub.accepted()) == 2)
        for task in ("waits", "runs"):
            cancel = Cancel(task=task, attempt=1, reason="not wanted")
            await stage.hub.publish(Control(stage.site, app.name.worker), cancel)
            end = await stage.hub.ended(task)
            assert (end.outcome, end.error) == (Outcome.CANCELLED, "not wanted")


async def leave_unacknowledged(stage: Stage) -> None:
    """Let a connection of the worker die with a task that it has not committed."""
    settings = stage.settings()
    worker = settings.id or ""
    link = Link(url=stage.broker_url, client_id=worker, session_expiry_seconds=settings.session_expiry_seconds)
    async with link.connect() as connection:
        await connection.subscribe(stage.hub.topics.build(WorkerTasks(stage.site, worker)))
        await stage.hub.inject_to(worker, {"id": "t", "kind": "noop", "attempt": 1})
        async for incoming in connection.messages():
            if b'"t"' in incoming.payload:
                break


async def test_what_is_unacknowledged_comes_again(stage: Stage) -> None:
    async with stage.synced():
        pass
    await leave_unacknowledged(stage)
    async with stage.synced():
        assert (await stage.hub.ended("t")).outcome is Outcome.SUCCEEDED


async def test_what_the_broker_has_kept_for_a_disk_that_is_gone_is_not_run(stage: Stage) -> None:
    """It may have run already, by the journal that is gone: only the hub can tell what to make of that."""
    async with stage.synced():
        pass
    await leave_unacknowledged(stage)
    async with stage.synced("w", offline_dir=stage.directory / "another-disk") as app:
        await stage.hub.inject_to(app.name.worker, {"id": "next", "kind": "noop", "attempt": 1})
        await stage.hub.ended("next")  # it would have come behind
        assert "t" not in stage.hub.finished()
    await leave_unacknowledged(stage)
    async with stage.synced("w", offline_dir=stage.directory / "another-disk"):  # this is its own now
        await stage.hub.ended("t")


async def test_a_second_agent_with_the_same_id_is_told_clearly(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage.agent() as app, stage.agent(offline_dir=stage.directory / "other"):
        await stage.hub.until(lambda: len(stage.hub.births(app.name.worker)) > 2)
    assert "worker_id_in_use" in capsys.readouterr().out


async def test_a_stop_hands_back_what_waits_and_interrupts_what_takes_too_long(stage: Stage) -> None:
    async with stage.synced(slots=1) as app:
        sleep = {"kind": "sleep", "params": {"seconds": 600}}
        await stage.hub.inject([{"id": "runs", **sleep}, {"id": "waits", **sleep}])
        await stage.hub.until(lambda: len(stage.hub.accepted()) == 2)
    await stage.hub.until(lambda: stage.hub.statuses(app.name.worker)[-1]["state"] == "stopped")
    assert stage.hub.finished()["runs"].outcome is Outcome.INTERRUPTED
    assert stage.hub.declined()["waits"].injected is not None


async def test_what_waits_without_a_hub_runs_at_the_next_start(stage: Stage) -> None:
    async with stage.agent(slots=1) as app:
        sleep = {"kind": "sleep", "params": {"seconds": 600}}
        await stage.hub.inject([{"id": "runs", **sleep}, {"id": "waits", "kind": "noop"}])
        await grown_to(app, 3)
    async with stage.synced(slots=1):
        assert (await stage.hub.ended("waits")).outcome is Outcome.SUCCEEDED
        assert stage.hub.finished()["runs"].outcome is Outcome.INTERRUPTED


async def test_a_control_message_of_nonsense_harms_nothing(stage: Stage) -> None:
    async with stage.synced() as app:
        for payload in (b"{", b'{"type":"receipt"}', b'{"type":"nosuch"}', new_id().encode()):
            await stage.hub.publish(Control(stage.site, app.name.worker), payload)
        await stage.hub.publish(Status(stage.site, app.name.worker), b"\xff", retain=True)
        await stage.hub.inject({"id": "t", "kind": "noop"})
        await stage.hub.ended("t")


async def test_the_intake_dies_with_its_connection_and_lives_again(stage: Stage) -> None:
    async with stage.synced() as app:
        link = Link(url=stage.broker_url, client_id=f"{app.name.worker}-intake")
        async with link.connect() as other:
            with pytest.raises(LinkDown):  # when the agent takes its place back
                async for _ in other.messages():
                    pass
        await app.online.wait()
        await stage.hub.inject({"id": "t", "kind": "noop"})
        assert (await stage.hub.ended("t")).outcome is Outcome.SUCCEEDED


async def test_the_clock_is_told_before_any_event_that_is_stamped_by_it(stage: Stage) -> None:
    async with stage.agent() as app:
        worker = app.name.worker
        await stage.hub.inject({"id": "t", "kind": "noop"})
        await grown_to(app, 4)
        await stage.hub.come_online()
        hello = (await stage.hub.until(lambda: stage.hub.births(worker)))[-1]
        echo = ClockEcho(sent_at=hello.at, received_at=hello.at + 3_600_010, answered_at=hello.at + 3_600_020)
        await stage.hub.sync(worker, clock=echo)
        await stage.hub.ended("t")
        beats = stage.hub.heartbeats(worker)
        first = next(number for number, beat in enumerate(beats) if beat.clock)
        told = beats[first].clock
        assert told is not None
        assert (told.boot, told.sent_at) == (hello.boot, hello.at)
        assert hello.at <= told.heard_at <= beats[first].at
        order = [one.address for one in stage.hub.seen if isinstance(one.address, Heartbeat | Events)]
        assert order.index(Events(stage.site, worker)) == first + 1


async def test_a_heartbeat_names_all_that_is_held_and_how_the_journal_stood_then(stage: Stage) -> None:
    async with stage.synced(slots=1, heartbeat_interval_seconds=0.1) as app:
        sleep = {"kind": "sleep", "params": {"seconds": 600}}
        await stage.hub.inject([{"id": "runs", **sleep}, {"id": "waits", **sleep}])
        await stage.hub.until(lambda: len(stage.hub.accepted()) == 2)
        await stage.hub.until(lambda: len(stage.hub.heartbeats(app.name.worker)[-1].held or ()) == 2)
        last = stage.hub.heartbeats(app.name.worker)[-1]
        assert last.held == (TaskRef(task="runs", attempt=1), TaskRef(task="waits", attempt=1))
        assert last.position is not None
        assert (last.position.stream, last.position.newest >= 3) == (app.journal.stream, True)


async def test_a_worker_that_is_asked_to_renew_says_hello_with_a_new_intake_and_takes_on(stage: Stage) -> None:
    async with stage.synced() as app:
        worker = app.name.worker
        before = stage.hub.births(worker)[-1]
        await stage.hub.inject_to(worker, {"id": "own", "kind": "noop"})
        await stage.hub.publish(Control(stage.site, worker), Renew())
        await stage.hub.until(lambda: stage.hub.births(worker)[-1].intake != before.intake)
        renewed = stage.hub.births(worker)[-1]
        assert renewed.session == before.session
        await stage.hub.ended("own")
        numbered = [one for batch in stage.hub.batches(worker) for one in batch.numbered()]
        accepted = [number for number, event in numbered if isinstance(event, TaskAccepted) and event.task == "own"]
        assert accepted[0] <= renewed.journal.newest  # what came before the order is in the journal of the hello
        await app.online.wait()
        await stage.hub.inject({"id": "t", "kind": "noop"})
        await stage.hub.ended("t")


async def test_an_old_copy_of_a_journal_begins_a_stream_of_its_own(stage: Stage) -> None:
    async with stage.agent() as app:
        worker, old = app.name.worker, app.journal.stream
        await stage.hub.inject({"id": "t", "kind": "noop"})
        await grown_to(app, 4)
        await stage.hub.come_online()
        await stage.hub.sync(worker, committed_through=1000)
        await stage.hub.until(lambda: stage.hub.births(worker)[-1].journal.stream != old)
        assert stage.hub.births(worker)[-1].journal.settled == 0
        assert stage.hub.batches(worker) == []
        await stage.hub.sync(worker, committed_through=0)
        await stage.hub.ended("t")
        assert {batch.stream for batch in stage.hub.batches(worker)} == {app.journal.stream}


async def test_an_event_that_cannot_be_read_holds_nothing_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "RECEIPT_TIMEOUT_SECONDS", 0.1)
    async with stage.agent() as app:
        await stage.hub.inject([{"id": "t1", "kind": "noop"}, {"id": "t2", "kind": "noop"}])
        await grown_to(app, 7)
        await app.runner.idle()
    connection = sqlite3.connect(app.settings.database)
    connection.execute("UPDATE journal SET body = X'7B22FF' WHERE seq = 1")
    connection.commit()
    connection.close()
    async with stage.agent() as app:
        await stage.hub.come_online()
        await stage.hub.sync(app.name.worker)
        await stage.hub.ended("t2")
        gap = next(event for event in stage.hub.events() if isinstance(event, Gap))
        assert (gap.dropped, gap.count) == (Dropped.UNREADABLE, 1)
        await asyncio.wait_for(flushed(app), 10)
