"""What a hub and a broker need for many agents that are there and do nothing: memory, CPU, and how a hub keeps up.

The agents are not processes: a few connections say births and heartbeats for all of them, as agents do each 30 s, and
as many more connections as agents have are held open at the broker. So this measures hub and broker, and not agents.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import httpx
import psutil

from bench.house import House
from bench.rows import Row
from broker.clock import now_ms
from broker.link import Connection, Link
from broker.messages import Birth, HeartbeatMessage, JournalDepth, JournalPosition, encode
from broker.topics import Heartbeat, Status, Topics

if TYPE_CHECKING:
    from collections.abc import Iterator

FLEETS = (1_000, 5_000)
INTERVAL_SECONDS = 30.0
PUBLISHERS = 4
CONNECTIONS_AN_AGENT = 2
CONNECTIONS = 2_000
"""Held open at the broker, to see what one costs it."""

_TOPICS = Topics()
Say = Callable[[Connection, str], Awaitable[None]]


class Load(NamedTuple):
    """What a fleet costs: memory in MB, CPU in percent of a core."""

    agents: int
    greeted_seconds: float
    hub_mb: float
    hub_cpu: float
    broker_cpu: float
    listed_ms: float


def rows() -> Iterator[Row]:
    """Measure fleets of several sizes, each on a hub of its own."""
    for agents in FLEETS:
        with House(workers=0, slots=1) as house:
            load = asyncio.run(_measure(house, agents))
        yield Row(
            f"{agents:,} agents come at one time, until the hub shows all online", f"{load.greeted_seconds:.1f} s"
        )
        yield Row(
            f"hub with {agents:,} idle agents, a heartbeat each {INTERVAL_SECONDS:g} s",
            f"{load.hub_mb:.0f} MB, {load.hub_cpu:.0f} % of a core",
            f"broker: {load.broker_cpu:.0f} % of a core; GET /api/workers, all of them: {load.listed_ms:.0f} ms",
        )
    with House(workers=0, slots=1) as house:
        before, after = asyncio.run(_hold_connections(house))
    kilobytes = (after - before) / CONNECTIONS / 1e3
    yield Row(
        "broker, for each connection", f"{kilobytes:.1f} kB", f"two for each agent; with none: {before / 1e6:.1f} MB"
    )


async def _measure(house: House, agents: int) -> Load:
    names = [f"agent-{number:05}" for number in range(agents)]
    hub, broker = psutil.Process(house.programs["hub"].pid), psutil.Process(house.broker.pid)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=house.hub_url, timeout=60))
        links = [Link(url=house.broker.url, client_id=f"fleet-{number}") for number in range(PUBLISHERS)]
        connections = [await stack.enter_async_context(link.connect()) for link in links]
        began = time.perf_counter()
        await _share(connections, names, _be_born)
        while await _online(http) < agents:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # the API tells; there is nothing to wait on
        greeted = time.perf_counter() - began
        hub.cpu_percent(), broker.cpu_percent()
        started = time.perf_counter()
        await _share(connections, names, _beat, pause=INTERVAL_SECONDS * PUBLISHERS / agents)
        await asyncio.sleep(max(0.0, INTERVAL_SECONDS - (time.perf_counter() - started)))
        hub_cpu, broker_cpu = hub.cpu_percent(), broker.cpu_percent()
        asked = time.perf_counter()
        await _online(http)
        listed = (time.perf_counter() - asked) * 1000
    return Load(agents, greeted, hub.memory_info().rss / 1e6, hub_cpu, broker_cpu, listed)


async def _share(connections: list[Connection], names: list[str], say: Say, *, pause: float = 0.0) -> None:
    async with asyncio.TaskGroup() as group:
        for number, connection in enumerate(connections):
            group.create_task(_say_all(connection, names[number::PUBLISHERS], say, pause))


async def _say_all(connection: Connection, names: list[str], say: Say, pause: float) -> None:
    for name in names:
        await say(connection, name)
        if pause:
            await asyncio.sleep(pause)


async def _be_born(connection: Connection, name: str) -> None:
    birth = Birth(
        session=f"s-{name}",
        boot=f"b-{name}",
        at=now_ms(),
        version="0.1.0",
        slots=4,
        kinds=("noop", "sleep", "command", "container", "http"),
        capabilities={"docker": True, "cpus": 4, "memory_mb": 4096, "arch": "arm64"},
        heartbeat_interval_seconds=INTERVAL_SECONDS,
        session_expiry_seconds=3600,
        journal=JournalPosition(stream=f"j-{name}", oldest=1, newest=0),
    )
    await connection.publish(_TOPICS.build(Status("bench", name)), encode(birth), retain=True)


async def _beat(connection: Connection, name: str) -> None:
    beat = HeartbeatMessage(
        session=f"s-{name}",
        at=now_ms(),
        queued=0,
        journal=JournalDepth(rows=0, bytes=0),
        written_bytes_today=0,
        cpu_percent=1.0,
        memory_bytes=40_000_000,
        disk_free_bytes=8_000_000_000,
        held=(),
        position=JournalPosition(stream=f"j-{name}", oldest=1, newest=0),
    )
    await connection.publish(_TOPICS.build(Heartbeat("bench", name)), encode(beat), retain=True, expiry_seconds=90)


async def _online(http: httpx.AsyncClient) -> int:
    answer = await http.get("/api/workers", params={"state": "online"})
    return len(answer.raise_for_status().json()["items"])


async def _hold_connections(house: House) -> tuple[int, int]:
    """Open bare connections with one subscription each; return the broker's memory before and then, in bytes."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, CONNECTIONS + 1000), limit))
    broker = psutil.Process(house.broker.pid)
    before = broker.memory_info().rss
    writers = []
    for number in range(CONNECTIONS):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.broker.port)
        writer.write(_connect(f"held-{number}") + _subscribe(f"edge/v1/sites/bench/workers/held-{number}/tasks"))
        await reader.readexactly(4)
        writers.append(writer)
    after = broker.memory_info().rss
    for writer in writers:
        writer.close()
    return before, after


def _connect(client_id: str) -> bytes:
    """Return a CONNECT of MQTT 5 with no properties and a keepalive of 20 s (MQTT 5, §3.1)."""
    body = b"\x00\x04MQTT\x05\x02\x00\x14\x00" + _text(client_id)
    return b"\x10" + bytes([len(body)]) + body


def _subscribe(pattern: str) -> bytes:
    body = b"\x00\x01\x00" + _text(pattern) + b"\x01"
    return b"\x82" + bytes([len(body)]) + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()
