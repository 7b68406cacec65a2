"""What systemd is told: by a real socket, since that is all that there is to it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from typing import TYPE_CHECKING

import pytest
import structlog.testing

from broker.service import STUCK_SECONDS, Service, watchdog_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Manager:
    """The socket of a systemd, and what came there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0)

    async def hears(self) -> str:
        """Return the next message."""
        async with asyncio.timeout(10):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()

    def heard(self) -> list[str]:
        """Return what has come already."""
        messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self._socket.recv(4096).decode())
        return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    with contextlib.closing(
        Manager(str(tmp_path / "notify") if request.param == "path" else f"@holdfast-{os.getpid()}-{id(request)}")
    ) as made:
        yield made


def test_each_state_is_one_message(manager: Manager) -> None:
    service = Service(manager.address)
    service.status("online at mqtts://broker.example:8883; 2 running, 0 queued")
    service.ready()
    service.stopping()
    assert manager.heard() == [
        "STATUS=online at mqtts://broker.example:8883; 2 running, 0 queued",
        "READY=1",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000",
    ]


def test_a_status_is_one_line_and_the_same_again_is_not_sent(manager: Manager) -> None:
    service = Service(manager.address)
    for text in ("two\nlines", "two\nlines", "another"):
        service.status(text)
    assert manager.heard() == ["STATUS=two lines", "STATUS=another"]


async def test_signs_of_life_come_as_long_as_the_event_loop_turns(manager: Manager) -> None:
    async with Service(manager.address, watchdog_seconds=0.03).alive(lambda: 0.0):
        assert [await manager.hears() for _ in range(3)] == ["WATCHDOG=1"] * 3
    manager.heard()
    await asyncio.sleep(0.05)
    assert manager.heard() == []


@pytest.mark.parametrize("stuck", [STUCK_SECONDS + 1, math.inf])
async def test_a_thread_that_is_stuck_or_dead_is_no_life_and_is_told_once(manager: Manager, stuck: float) -> None:
    asked = asyncio.Queue[None]()

    def stuck_seconds() -> float:
        asked.put_nowait(None)
        return stuck

    with structlog.testing.capture_logs() as logs:
        async with Service(manager.address, watchdog_seconds=0.03).alive(stuck_seconds):
            for _ in range(3):
                await asked.get()
    assert manager.heard() == []
    assert [entry["event"] for entry in logs] == ["no_sign_of_life"]


async def test_a_thread_that_goes_on_again_is_life_again(manager: Manager) -> None:
    stuck = [STUCK_SECONDS + 1, STUCK_SECONDS]
    async with Service(manager.address, watchdog_seconds=0.03).alive(lambda: stuck.pop(0) if stuck else 0.0):
        assert await manager.hears() == "WATCHDOG=1"
    assert stuck == []


async def test_while_it_stops_each_beat_asks_for_time_until_the_next_ones(manager: Manager) -> None:
    service = Service(manager.address, watchdog_seconds=0.03)
    async with service.alive(lambda: 0.0):
        assert await manager.hears() == "WATCHDOG=1"
        service.stopping()
        assert "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000" in [await manager.hears() for _ in range(2)]
        assert await manager.hears() == "EXTEND_TIMEOUT_USEC=30000"


async def test_a_stop_that_hangs_is_waited_for_no_longer_than_it_may_take(manager: Manager) -> None:
    asked = asyncio.Queue[None]()

    def not_stuck() -> float:
        asked.put_nowait(None)
        return 0.0

    service = Service(manager.address, watchdog_seconds=0.03)
    async with service.alive(not_stuck):
        service.stopping(0.0)
        await asked.get()
        manager.heard()
        for _ in range(3):
            await asked.get()
    assert manager.heard() == []


async def test_a_socket_that_is_gone_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    service = Service(str(tmp_path / "gone"))
    with structlog.testing.capture_logs() as logs:
        service.ready()
        service.status("online")
        async with service.alive(lambda: 0.0):
            await asyncio.sleep(0)
        service.stopping()
    assert [entry["event"] for entry in logs] == ["systemd_not_told"]
    assert str(tmp_path / "gone") in logs[0]["socket"]


def test_an_address_that_is_no_unix_socket_is_told() -> None:
    with structlog.testing.capture_logs() as logs:
        Service("vsock:2:1234").ready()
    assert "vsock:2:1234" in logs[0]["reason"]


async def test_without_systemd_nothing_is_asked_and_nothing_sent() -> None:
    service = Service.from_environment({}, pid=7)

    def never() -> float:
        raise AssertionError

    with structlog.testing.capture_logs() as logs:
        service.ready()
        service.status("online")
        async with service.alive(never):
            await asyncio.sleep(0)
        service.stopping()
    assert logs == []


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_what_systemd_says_it_is(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environment, 7) == seconds
