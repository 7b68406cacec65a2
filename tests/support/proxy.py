"""A TCP proxy before the broker, which can be cut, or left hanging as a link is that nobody answers on."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum, auto
from typing import Self

from broker.local import HOST

CHUNK_BYTES = 64 * 1024


class Line(Enum):
    """How the way is."""

    OPEN = auto()
    CUT = auto()
    """Connections end at once, and so does each new one."""
    HUSHED = auto()
    """Connections stay, and nothing passes."""


class Proxy:
    """One client's way to the broker.

    Args:
        port: The broker's.

    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._line = Line.OPEN
        self._passable = asyncio.Event()
        self._passable.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"mqtt://{HOST}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        if self._server:
            self._server.close()
            await self._server.wait_closed()
        await asyncio.sleep(0)  # what was accepted in this very turn begins to be served
        while self._serving:
            await asyncio.wait(set(self._serving))
        await asyncio.sleep(0)  # and what was aborted is closed in the next

    def cut(self) -> None:
        """Break all connections, and let no new one come about."""
        self._line = Line.CUT
        self.drop()

    def hush(self) -> None:
        """Let nothing pass."""
        self._line = Line.HUSHED
        self._passable.clear()

    def heal(self) -> None:
        """Let everything pass: what was on its way when it was hushed, too."""
        self._line = Line.OPEN
        self._passable.set()

    def drop(self) -> None:
        """Break all connections; what is on its way is lost."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._passable.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            await self._connect_through(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passable.wait()
        if self._line is Line.CUT:
            return
        try:
            there, back = await asyncio.open_connection(HOST, self._to)
        except OSError:
            return  # there is no broker now: the client finds its connection closed
        self._writers.add(back)
        ways = [asyncio.ensure_future(self._pass(reader, back)), asyncio.ensure_future(self._pass(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            self._writers.discard(back)
            back.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._passable.wait()
                writer.write(chunk)
                await writer.drain()
