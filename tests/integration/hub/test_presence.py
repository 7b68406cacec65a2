"""Who is there, as the hub sees it over a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker.messages import Sync

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub


async def test_a_birth_makes_it_online_with_what_it_can_do(world: World, hub: RunningHub) -> None:
    async with world.worker(capabilities={"docker": True}, slots=3) as worker:
        shown = await hub.worker("w1", state="online")
        assert (shown["site"], shown["reason"], shown["slots"]) == ("site-a", None, 3)
        assert (shown["capabilities"], shown["kinds"]) == ({"docker": True}, ["noop", "sleep"])
        await worker.beat()
        assert (await hub.worker("w1", journal={"rows": 0, "bytes": 0, "oldest_at": None}))["queued"] == 0


async def test_a_stop_is_shown_at_once(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        await worker.farewell(stopped=True)
        assert (await hub.worker("w1", state="offline"))["reason"] == "stopped"


async def test_a_cut_cable_is_shown_by_the_will(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        worker.die()
        assert (await hub.worker("w1", state="offline"))["reason"] == "connection_lost"


async def test_a_late_will_does_not_end_the_new_session(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        old, worker.session = worker.session, "the new one"
        await worker.hello()
        await worker.farewell(stopped=False, session=old)
        await worker.beat()
        await hub.worker("w1", journal={"rows": 0, "bytes": 0, "oldest_at": None})  # the beat came after the will
        assert (await hub.get("/api/workers/w1"))["state"] == "online"


async def test_silence_makes_it_suspect_then_offline_and_a_heartbeat_brings_it_back(
    world: World, hub: RunningHub
) -> None:
    async with world.worker(heartbeat_interval_seconds=0.4) as worker:
        assert (await hub.worker("w1", state="suspect"))["reason"] == "heartbeat_missed"
        assert (await hub.worker("w1", state="offline"))["reason"] == "heartbeat_missed"
        await worker.beat()
        assert (await hub.worker("w1", state="online"))["reason"] is None


async def test_a_suspect_worker_gets_no_work(world: World, hub: RunningHub) -> None:
    async with world.worker(heartbeat_interval_seconds=0.6) as worker:
        await hub.worker("w1", state="suspect")
        task = await hub.post({"kind": "noop"})
        assert task["reason"] == "no worker at any site is online"
        await worker.beat()
        assert (await worker.next_assignment()).id == task["id"]


async def test_a_retained_birth_with_nothing_behind_it_goes_stale(world: World) -> None:
    async with world.worker(greets=False, heartbeat_interval_seconds=0.3) as worker, world.asker() as asker:
        birth = worker.birth().model_dump_json(exclude_none=True).encode()
        await asker.inject(world.worker_topic().replace("/tasks", "/status"), birth, retain=True)
        async with world.hub() as hub:
            assert (await hub.worker("w1", state="suspect"))["reason"] == "stale_retained"
            assert (await hub.worker("w1", state="offline"))["reason"] == "stale_retained"


async def test_a_retained_birth_is_believed_once_a_heartbeat_comes(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.asker() as asker:
            birth = worker.birth().model_dump_json(exclude_none=True).encode()
            await asker.inject(world.worker_topic().replace("/tasks", "/status"), birth, retain=True)
        async with world.hub() as hub:
            await hub.worker("w1", state="suspect")
            await worker.beat()
            assert (await hub.worker("w1", state="online"))["reason"] is None


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b'{"state": "asleep"}', b'{"state": "online"}', b"\xff", b"[]", b"null"]
)
async def test_a_status_that_is_none_stops_nothing(world: World, hub: RunningHub, payload: bytes) -> None:
    async with world.worker() as worker, world.asker() as asker:
        for leaf in ("status", "heartbeat"):
            await asker.inject(world.worker_topic().replace("/tasks", f"/{leaf}"), payload)
        await worker.beat()
        await hub.worker("w1", journal={"rows": 0, "bytes": 0, "oldest_at": None})
        assert (await hub.get("/api/workers/w1"))["state"] == "online"


async def test_every_hello_is_answered(world: World, hub: RunningHub) -> None:
    async with world.worker() as worker:
        for _ in range(3):
            sync = await worker.hello()
            assert sync == Sync(session=worker.session, stream=worker.stream, committed_through=0)
        assert (await hub.get("/api/workers/w1"))["state"] == "online"
