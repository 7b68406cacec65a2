from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from edge_agent.engine import Engine, Track
from edge_agent.engine.connecting import socket_of
from edge_agent.engine.threads import in_thread
from edge_agent.errors import EngineGone

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 10**9


@pytest.mark.parametrize(
    ("killed_at", "died_at", "was_killed"),
    [(None, 5, False), (5, 6, True), (5, None, True), (5 * SECOND, 3600 * SECOND, False)],
)
def test_who_ends_soon_after_a_signal_was_killed(killed_at: int | None, died_at: int | None, was_killed: bool) -> None:  # noqa: FBT001
    assert Track(killed_at=killed_at, died_at=died_at).was_killed is was_killed


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        (None, None, "/var/run/docker.sock"),
        (None, "unix:///run/mine.sock", "/run/mine.sock"),
        ("unix:///x", "tcp://h:1", "/x"),
        (None, "tcp://h:2375", None),
        ("tcp://h:2375", None, None),
    ],
)
def test_the_socket_is_where_the_engine_is(url: str | None, host: str | None, path: str | None) -> None:
    assert socket_of(url, {"DOCKER_HOST": host} if host else {}) == path


async def test_an_engine_that_is_not_there_is_told_once_it_is_known(tmp_path: Path) -> None:
    heard: list[tuple[bool, str]] = []
    engine = Engine(f"unix://{tmp_path}/no.sock")
    engine.on_change = lambda is_there, reason: heard.append((is_there, reason))
    running = asyncio.create_task(engine.run())
    await engine.looked()
    assert heard == [(False, f"the Docker Engine does not answer: {tmp_path}/no.sock: No such file or directory")]
    with pytest.raises(EngineGone, match="No such file or directory"):
        await engine.call(lambda _: None)
    running.cancel()
    await asyncio.wait([running])
    assert engine.is_closed


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"}, "certificate"),
        ({"DOCKER_HOST": "tcp://127.0.0.1:port"}, "'port'"),
        ({"DOCKER_HOST": "nonsense://127.0.0.1"}, "nonsense"),
    ],
)
async def test_an_engine_that_cannot_be_asked_is_one_that_does_not_answer(
    environment: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    await is_silent_and_watched(Engine(None), reason)


async def test_one_that_answers_and_refuses_to_be_asked_is_none(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            status, body = ("200 OK", '{"ApiVersion": "1.41"}') if b"/version" in request else ("403 Forbidden", "no")
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
            )
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "s")
    await is_silent_and_watched(Engine(f"unix://{tmp_path}/s"), "no")
    server.close()


async def is_silent_and_watched(engine: Engine, reason: str) -> None:
    running = asyncio.create_task(engine.run())
    silent = asyncio.ensure_future(engine.looked())
    async with asyncio.timeout(10):
        await asyncio.wait([running, silent], return_when=asyncio.FIRST_COMPLETED)
    assert not running.done()
    assert reason in engine.reason
    running.cancel()
    await asyncio.wait([running])


async def test_a_thread_hands_on_what_its_work_raises() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_thread(fail, "failing")
    assert await in_thread(lambda: 7, "working") == 7
