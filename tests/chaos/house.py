"""The city as processes: a mosquitto, a hub and agents, each behind a way to the broker that can be cut."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from broker.local import HOST, PrivateBroker, free_port
from tests.chaos import disks
from tests.chaos.programs import Program
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.chaos.city import City, Place

HEARTBEAT_SECONDS = 0.5
LOST_AFTER_SECONDS = 2.0
ACCEPT_SECONDS = 2.0
POLL_SECONDS = 0.5
SLOTS = 8
SMALL_BUFFER_MB = 0.06
"""About 300 events."""

GENTLE_SECONDS = 1.0
READY_SECONDS = 30.0
REQUEST_SECONDS = 5.0
MOST_REQUESTS = 32
"""At a time: httpx looks at all that wait whenever one ends, and 400 that wait for a frozen hub stop the loop."""

# The store is saved often, and not always: a broker that is killed comes back with one that is a little old.
_BROKER_EXTRA = "autosave_interval 3\n"

_NOT_EPHEMERAL = (15_000, 30_000)


@dataclass(frozen=True, slots=True)
class Death:
    """A program that ended by itself, which none may."""

    name: str
    code: int
    at: float


@dataclass
class House:
    """Everything that runs.

    Attributes:
        deaths: What ended by itself.
        lines: How many may ask the hub at one time.

    """

    city: City
    folder: Path
    broker: PrivateBroker
    hub: Program
    agents: dict[str, Program]
    ways: dict[str, Proxy]
    clocks: dict[str, Path]
    http: httpx.AsyncClient
    deaths: list[Death] = field(default_factory=list)
    lines: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_REQUESTS))

    @property
    def trace(self) -> Path:
        """Where runs leave their trace."""
        return self.folder / "trace"

    def offline(self, place: str) -> Path:
        """Return a worker's directory."""
        return self.folder / place

    def set_clock(self, place: str, offset_seconds: float) -> None:
        """Set a worker's clock to the true time and so many seconds."""
        file = self.clocks[place]
        beside = file.with_suffix(".new")
        beside.write_text(f"{offset_seconds:+.3f}\n")
        beside.replace(file)

    async def start_broker(self) -> None:
        """Start the broker on its old port, with what it has kept."""
        await asyncio.to_thread(self.broker.start)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401  httpx's own
        """Return what the hub answers. Raises `httpx.HTTPError`."""
        async with self.lines:
            return await self.http.request(method, path, **more)

    async def get(self, path: str, **query: str | float) -> Any:  # noqa: ANN401  JSON
        """Return what the hub answers to a GET, or None where it does not."""
        try:
            answer = await self.ask("GET", path, params=query)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    async def ready(self) -> None:
        """Wait until the hub sees everybody online."""
        async with asyncio.timeout(READY_SECONDS):
            while await self.online() < len(self.agents):  # noqa: ASYNC110  the hub is asked, which tells nobody
                await asyncio.sleep(0.2)

    async def online(self) -> int:
        """Return how many workers the hub sees online."""
        found = await self.get("/api/workers", state="online")
        return len(found["items"]) if found else 0


@asynccontextmanager
async def make_house(city: City, folder: Path, library: str | None) -> AsyncIterator[House]:
    """Build the house in `folder`; all of it ends with the block.

    Args:
        city: What is built.
        folder: Where; it must exist.
        library: libfaketime, where there is one.

    """
    async with AsyncExitStack() as stack:
        brokers = folder / "broker"
        brokers.mkdir()
        broker = PrivateBroker(port=lasting_port(), directory=brokers, persistent=True, extra=_BROKER_EXTRA)
        stack.callback(broker.close)
        await asyncio.to_thread(broker.start)
        port = lasting_port()
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=REQUEST_SECONDS)
        )
        ways = {
            name: await stack.enter_async_context(Proxy(broker.port))
            for name in ("hub", *(one.name for one in city.places))
        }
        builder = _Builder(folder, port, ways, library)
        house = House(
            city=city,
            folder=folder,
            broker=broker,
            hub=builder.hub(),
            agents={place.name: builder.agent(place) for place in city.places},
            ways=ways,
            clocks=builder.clocks,
            http=http,
            deaths=builder.deaths,
        )
        _mount_small_disks(city, folder, stack)
        for program in (house.hub, *house.agents.values()):
            stack.push_async_callback(program.kill)
            await program.start()
        yield house


def lasting_port() -> int:
    """Return a free port that nobody is given by chance while its program is down.

    A client that tries a dead port of the ephemeral range again and again connects to itself in the end, and has it.
    """
    while True:
        wanted = random.randint(*_NOT_EPHEMERAL)  # noqa: S311  any will do
        if free_port(wanted) == wanted:
            return wanted


def _mount_small_disks(city: City, folder: Path, stack: AsyncExitStack) -> None:
    for place in city.places:
        if place.small_disk and disks.may_mount():
            stack.enter_context(disks.small_disk(folder / place.name))


class _Builder:
    def __init__(self, folder: Path, port: int, ways: dict[str, Proxy], library: str | None) -> None:
        self._folder = folder
        self._port = port
        self._ways = ways
        self._library = library
        self.clocks: dict[str, Path] = {}
        self.deaths: list[Death] = []

    def hub(self) -> Program:
        settings = {
            "HUB_BROKER_URL": self._ways["hub"].url,
            "HUB_HTTP_PORT": str(self._port),
            "HUB_DATABASE_URL": f"sqlite:///{self._folder / 'hub.db'}",
            "HUB_LOST_AFTER_SECONDS": str(LOST_AFTER_SECONDS),
            "HUB_ACCEPT_TIMEOUT_SECONDS": str(ACCEPT_SECONDS),
            "HUB_LOG_FORMAT": "json",
        }
        return Program("hub", ["-m", "hub", "serve"], settings, self._folder, self._on_death)

    def agent(self, place: Place) -> Program:
        settings = {
            "WORKER_ID": place.name,
            "WORKER_SITE": place.site,
            "WORKER_BROKER_URL": self._ways[place.name].url,
            "WORKER_CONTROL_PLANE_URL": f"http://{HOST}:{self._port}",
            "WORKER_OFFLINE_DIR": str(self._folder / place.name),
            "WORKER_POLL_INTERVAL_SECONDS": str(POLL_SECONDS),
            "WORKER_HEARTBEAT_INTERVAL_SECONDS": str(HEARTBEAT_SECONDS),
            "WORKER_SLOTS": str(SLOTS),
            "WORKER_PLUGINS": "tests.chaos.traced",
            "WORKER_STOP_SECONDS": "0.5",
            "WORKER_LOG_LEVEL": "debug",
            "WORKER_LOG_FORMAT": "json",
            "CHAOS_TRACE": str(self._folder / "trace"),
        }
        if place.small_buffer:
            settings["WORKER_BUFFER_MAX_MB"] = str(SMALL_BUFFER_MB)
        if place.gentle:
            settings |= {"WORKER_BUFFER_MODE": "gentle", "WORKER_BUFFER_HOLD_SECONDS": str(GENTLE_SECONDS)}
        if place.own_clock and self._library:
            settings |= self._clock(place.name, self._library)
        return Program(place.name, ["-m", "edge_agent", "run"], settings, self._folder, self._on_death)

    def _clock(self, name: str, library: str) -> dict[str, str]:
        """Return what a process must have to believe in a clock of its own; its steady clock stays true."""
        file = self.clocks[name] = self._folder / f"{name}.clock"
        file.write_text("+0\n")
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # it is for an old glibc, and makes threads that wait spin
            "FAKETIME_CACHE_DURATION": "1",
        }

    def _on_death(self, name: str, code: int) -> None:
        self.deaths.append(Death(name, code, time.monotonic()))
