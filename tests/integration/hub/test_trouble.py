"""A database that fails for a while: nothing that the hub was given or had decided is lost with it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from broker.local import PrivateBroker
from hub import decisions, wire
from hub.ingest import apply_batch
from hub.store import tasks as store
from tests.integration.hub.conftest import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.hubs import RunningHub


def failing_once(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return `work` as it is on a disk that is full for a moment."""
    calls = 0

    def fail_first(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OperationalError("COMMIT", {}, Exception("database or disk is full"))
        return work(*arguments, **named)

    return fail_first


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub try again at once."""
    monkeypatch.setattr(decisions, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(wire, "RETRY_SECONDS", 0.01)


async def test_a_task_that_could_not_be_assigned_is_assigned_later(
    world: World, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "assign", failing_once(store.assign))
    async with world.worker(slots=1) as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        assert (one.id, one.attempt) == ("t1", 1)
        await worker.run(one)
    assert (await hub.ended("t1"))["state"] == "succeeded"


async def test_a_task_whose_expiry_could_not_be_kept_expires_later(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "move", failing_once(store.move))
    await hub.post({"id": "t1", "kind": "noop", "expires_in_seconds": 0.05})
    assert (await hub.ended("t1"))["state"] == "expired"


async def test_a_batch_that_could_not_be_committed_is_committed_later_with_no_new_connection(
    world: World, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.inbound.apply_batch", failing_once(apply_batch))
    async with world.worker() as worker:
        await hub.post({"id": "t1", "kind": "noop"})
        one = await worker.next_assignment()
        receipt = await worker.accept(one)
        assert receipt.through >= 1
        await worker.finish(one)
    assert (await hub.ended("t1"))["state"] == "succeeded"


async def test_a_disk_that_is_full_for_a_while_ends_nothing(world: World) -> None:
    failures = 0

    def refuse(_: object) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    async with world.hub(accept_timeout_seconds=0.3) as hub, world.worker(slots=1) as worker:
        await hub.post({"id": "once", "kind": "noop", "idempotent": False})
        one = await worker.next_assignment()
        await hub.post({"id": "waits", "kind": "noop"})
        event.listen(hub.hub._engine, "commit", refuse)  # noqa: SLF001  a disk cannot be filled from outside
        failures = 4
        assert (await worker.next_assignment()).attempt == one.attempt  # sent again, when the disk has room
        assert failures == 0
        await worker.run(one)
        assert (await worker.next_assignment()).id == "waits"
        await hub.ended("once")


async def test_what_is_committed_while_the_link_goes_is_known_to_the_whole_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slowly(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        begun.set()
        may_end.wait()
        return submit(*arguments, **named)

    submit = store.submit
    with PrivateBroker() as broker:
        world = World(broker.url, tmp_path)
        async with world.hub(accept_timeout_seconds=0.2) as hub:
            async with world.worker(), world.asker() as asker:
                await hub.worker("w1", state="online")
                monkeypatch.setattr(store, "submit", slowly)
                await asker.inject(world.worker_topic(), {"id": "t1", "kind": "noop"})
                await asyncio.to_thread(begun.wait)
                broker.kill()
                await hub.worker("w1", state="suspect")
            may_end.set()
            await hub.task("t1")
            broker.start()
            await hub.connected()
            async with world.worker() as worker:
                one = await worker.next_assignment()
                assert (one.id, one.attempt) == ("t1", 2)
                await worker.run(one)
            assert (await hub.ended("t1"))["state"] == "succeeded"
