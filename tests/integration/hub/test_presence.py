"""Who is there, as the hub sees it over a real broker."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from broker.local import PrivateBroker
from broker.messages import Sync, encode
from broker.topics import BRIDGE_CUT, Bridge, Status
from hub.attendance import Attendance
from hub.rules import presence
from tests.support.hubs import running_hub, settings_for
from tests.support.workers import scripted_worker, soon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


async def test_a_bridge_that_says_that_it_is_cut_takes_its_site_along_and_no_other(
    world: World, hub: RunningHub
) -> None:
    bridge = world.topics.build(Bridge("site-a"))
    async with world.worker() as worker, world.worker("w2", site="site-b"), world.asker() as asker:
        await asker.inject(bridge, BRIDGE_CUT, retain=True)
        assert (await hub.worker("w1", state="offline"))["reason"] == "site_link_down"  # although it is the only one
        assert (await hub.get("/api/workers/w2"))["state"] == "online"
        await asker.inject(bridge, b"1", retain=True)
        await worker.beat()
        assert (await hub.worker("w1", state="online"))["reason"] is None


async def test_a_bridge_that_went_while_the_hub_was_away_is_known_to_the_next(world: World) -> None:
    async with world.worker(greets=False) as worker, world.asker() as asker:
        async with world.hub() as hub:
            await hub.connected()
            await worker.beat()
            await hub.worker("w1", state="online")
        await asker.inject(world.topics.build(Bridge("site-a")), BRIDGE_CUT, retain=True)
        async with world.hub() as hub:
            assert (await hub.worker("w1", state="offline"))["reason"] == "site_link_down"


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
            assert sync.model_copy(update={"clock": None}) == Sync(
                session=worker.session, stream=worker.stream, committed_through=0
            )
        assert (await hub.get("/api/workers/w1"))["state"] == "online"


# -- restarts: each ends in the truth within two heartbeats ----------------------------------------------------------


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[PrivateBroker]:
    """A broker that a test may kill, and that keeps its store."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with PrivateBroker(persistent=True, directory=folder) as running:
        yield running


async def restart(broker: PrivateBroker, hub: RunningHub, *, store: bytes | None = None, wiped: bool = False) -> None:
    """Kill the broker and start it again, with its own store, an older one, or none; return when the hub is back."""
    file = broker.directory / "mosquitto.db"
    broker.kill()
    await hub.until(lambda: health(hub, "degraded"))
    if wiped:
        file.unlink(missing_ok=True)
    if store is not None:
        file.write_bytes(store)
    await asyncio.to_thread(broker.start)
    await soon(hub.connected())


async def health(hub: RunningHub, status: str) -> dict[str, Any] | None:
    shown = await hub.get("/health")
    if shown["status"] == status:
        return shown
    asyncio.get_running_loop().call_later(
        0.02, hub.changes.wake
    )  # the link tells nobody when it goes with nobody there
    return None


def store_of(broker: PrivateBroker) -> bytes:
    """Stop the broker in order, so that it writes its store, and start it again."""
    broker.stop()
    store = (broker.directory / "mosquitto.db").read_bytes()
    broker.start()
    return store


async def test_after_a_restart_of_the_hub_who_is_there_is_online_at_once(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.hub():
            await worker.hello()
        async with world.hub() as hub:
            assert (await hub.worker("w1", state="suspect"))["reason"] in ("broker_restarted", "stale_retained")
            await worker.hello()  # as it does when it hears of a new hub
            assert (await hub.worker("w1", state="online"))["reason"] is None


async def test_who_died_while_the_hub_was_away_is_offline_at_once(world: World) -> None:
    async with world.worker(greets=False) as worker:
        async with world.hub():
            await worker.hello()
        worker.die()
        async with world.hub() as hub:
            assert (await hub.worker("w1", state="offline"))["reason"] == "connection_lost"


async def test_who_came_and_died_while_the_hub_was_away_is_offline_at_once(
    own_broker: PrivateBroker, tmp_path: Path
) -> None:
    settings = settings_for(own_broker.url, tmp_path)
    async with AsyncExitStack() as stack:
        async with running_hub(settings) as hub:
            topics = hub.topics
            first = await stack.enter_async_context(scripted_worker(own_broker.url, topics))
        own_broker.kill()  # and what it had queued for the hub is gone
        (own_broker.directory / "mosquitto.db").unlink(missing_ok=True)
        await asyncio.to_thread(own_broker.start)
        async with scripted_worker(own_broker.url, topics, greets=False) as second:
            await second.farewell(stopped=True)
        assert first.session != second.session
        async with running_hub(settings) as hub:
            assert (await hub.worker("w1", state="offline"))["reason"] == "stopped"


async def test_who_died_with_no_hub_and_no_word_is_offline_after_two_heartbeats(
    own_broker: PrivateBroker, tmp_path: Path
) -> None:
    settings = settings_for(own_broker.url, tmp_path)
    async with running_hub(settings) as hub:
        async with scripted_worker(own_broker.url, hub.topics, heartbeat_interval_seconds=0.5):
            await restart(own_broker, hub, wiped=True)
        assert (await hub.worker("w1", state="offline"))["reason"] == "heartbeat_missed"


@pytest.mark.parametrize("wiped", [False, True])
async def test_after_a_restart_of_the_broker_a_hello_makes_it_online(
    own_broker: PrivateBroker,
    tmp_path: Path,
    wiped: bool,  # noqa: FBT001
) -> None:
    async with running_hub(settings_for(own_broker.url, tmp_path)) as hub:
        async with scripted_worker(own_broker.url, hub.topics):
            await restart(own_broker, hub, wiped=wiped)
            shown = await hub.get("/api/workers/w1")
            assert (shown["state"], shown["reason"]) == ("suspect", "broker_restarted")
        async with scripted_worker(own_broker.url, hub.topics):
            assert (await hub.worker("w1", state="online"))["reason"] is None


async def test_a_broker_with_an_old_store_disturbs_nobody_who_is_online(
    own_broker: PrivateBroker, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(settings_for(own_broker.url, tmp_path)))
        async with scripted_worker(own_broker.url, hub.topics, slots=1) as old:
            await old.beat(queued=7)
            store = await asyncio.to_thread(store_of, own_broker)
        await soon(hub.connected())
        async with scripted_worker(own_broker.url, hub.topics, slots=2) as newer:
            await newer.beat(queued=3)
            await hub.worker("w1", queued=3)
            await restart(own_broker, hub, store=store)
        async with scripted_worker(own_broker.url, hub.topics, slots=3) as newest:
            await newest.beat(queued=1)
            shown = await hub.worker("w1", queued=1)
            assert (shown["state"], shown["slots"]) == ("online", 3)


async def test_an_old_store_does_not_bring_back_who_has_stopped(own_broker: PrivateBroker, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(settings_for(own_broker.url, tmp_path)))
        async with scripted_worker(own_broker.url, hub.topics):
            store = await asyncio.to_thread(store_of, own_broker)
        await soon(hub.connected())
        async with scripted_worker(own_broker.url, hub.topics) as newer:
            await newer.farewell(stopped=True)
            before = await hub.worker("w1", state="offline")
        await restart(own_broker, hub, store=store)
        async with scripted_worker(own_broker.url, hub.topics, "w2"):
            await hub.worker("w2", state="online")  # what was retained came before
        assert await hub.get("/api/workers/w1") == before


async def test_what_a_broker_with_an_old_store_had_queued_does_not_bring_back_who_has_stopped(
    own_broker: PrivateBroker, tmp_path: Path
) -> None:
    """What it repeats of an ended session is not retained: it looks as if it were said now."""
    async with running_hub(settings_for(own_broker.url, tmp_path)) as hub:
        async with scripted_worker(own_broker.url, hub.topics) as worker:
            await worker.beat(queued=7)
            await worker.farewell(stopped=True)
            before = await hub.worker("w1", state="offline")
            await worker.publish(Status("site-a", "w1"), encode(worker.birth()))
            await worker.beat(queued=7)
        async with scripted_worker(own_broker.url, hub.topics, "w2"):  # what came before its hello was taken
            assert await hub.get("/api/workers/w1") == before


async def test_a_worker_that_is_known_by_its_farewell_alone_is_offline(world: World) -> None:
    async with world.worker(greets=False) as worker:
        await worker.farewell(stopped=True)
        async with world.hub() as hub:
            assert (await hub.worker("w1"))["reason"] == "stopped"


async def test_nobody_is_judged_for_the_time_in_which_the_hub_stood_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "FROZEN_MS", 500)
    async with world.hub() as hub, world.worker(heartbeat_interval_seconds=1):
        await next_look(monkeypatch)
        stand_still(seconds=3)  # longer than the silence that makes it suspect
        await next_look(monkeypatch)
        assert (await hub.get("/api/workers/w1"))["state"] == "online"


async def next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until the hub has looked for silence once more."""
    looked = asyncio.Event()
    judge = Attendance._judge  # noqa: SLF001

    def note(self: Attendance, now: int) -> None:
        judge(self, now)
        looked.set()

    with monkeypatch.context() as patched:
        patched.setattr(Attendance, "_judge", note)
        await soon(looked.wait())


def stand_still(seconds: float) -> None:
    """Keep the whole event loop from running, as SIGSTOP does."""
    time.sleep(seconds)


# -- sites -----------------------------------------------------------------------------------------------------------


async def test_a_site_whose_workers_are_all_lost_at_once_has_lost_its_link(world: World, hub: RunningHub) -> None:
    async with world.worker("a1") as one, world.worker("a2") as two, world.worker("b1", site="site-b"):
        one.die()
        assert (await hub.worker("a1", state="offline"))["reason"] == "connection_lost"
        since = (await hub.get("/api/workers/a1"))["since"]
        two.die()
        await hub.worker("a2", reason="site_link_down")
        assert (await hub.get("/api/workers/a1"))["reason"] == "site_link_down"
        async with world.worker("a2"):
            shown = await hub.worker("a1", reason="connection_lost")
            assert shown["since"] == since
        assert (await hub.get("/api/workers/b1"))["state"] == "online"


async def test_one_name_at_two_sites_is_the_one_that_said_hello_last(
    world: World, hub: RunningHub, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world.worker("w1", site="site-a") as first:
        other = world.topics.root + "-other"
        async with scripted_worker(world.broker_url, world.topics, "w1", "site-b", client_id=other) as second:
            assert (await hub.get("/api/workers/w1"))["site"] == "site-b"
            await first.beat(queued=5)
            await first.farewell(stopped=True)
            await second.beat(queued=2)
            shown = await hub.worker("w1", queued=2)
            assert (shown["site"], shown["state"]) == ("site-b", "online")
    told = capsys.readouterr().out
    assert "worker_moved" in told
    assert "worker_is_elsewhere" in told
