"""A server that answers with the bytes that it is told to, so that it can also do what no proper one would."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HOST = "127.0.0.1"
PIECE = b"x" * 65536


@dataclass
class Asked:
    """A request, as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """What was asked, and what is answered, by path.

    An answer of `b""` is none: the connection is held. `Flood` and `Drip` go on for ever.
    """

    answers: Mapping[str, bytes | type[Flood | Drip]]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    sent_bytes: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.add(asyncio.create_task(self.serve(reader, writer)))

    async def close(self) -> None:
        """End what is still held, and return when all of it is closed."""
        for handler in self.handlers:
            handler.cancel()
        await asyncio.gather(*self.handlers, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self.closed.set()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append(Asked(head[0], headers, body))
        self.arrived.set()
        answer = self.answers[head[0].split()[1].partition("?")[0]]
        if isinstance(answer, bytes):
            await self._send(writer, answer)
            if not answer:
                await reader.read()
            if b"Connection: close" in answer:
                raise ConnectionAbortedError
            return
        await self._send(writer, answer.head)
        while True:
            await self._send(writer, answer.piece)
            await asyncio.sleep(answer.pause_seconds)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent_bytes += len(data)


class Flood:
    """A body without end, as fast as it is read."""

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    piece = PIECE
    pause_seconds = 0.0


class Drip:
    """A body without end, a byte at a time."""

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    piece = b"x"
    pause_seconds = 0.01


def answer(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    """Return an answer; `content_type="…"` is the header Content-Type."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def serving(answers: Mapping[str, bytes | type[Flood | Drip]]) -> AsyncIterator[Server]:
    """Serve on a free port."""
    server = Server(answers)
    listener = await asyncio.start_server(server.begin, HOST, 0)
    server.url = f"http://{HOST}:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.close()
