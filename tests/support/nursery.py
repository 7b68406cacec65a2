"""The test's side of `tests.support.crashing_agent`: orders agents, and hears how far they came."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.programs import ROOT, clean_environment
from tests.support.traced import LIFE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PATIENCE_SECONDS = 30.0


class Life:
    """One agent's life.

    Attributes:
        points: What it has told, in order: each point that it reached, the last one of which may have been its end.
        log: The file that it logs to.

    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.points: list[str] = []
        self.pid = 0
        self._online = asyncio.Event()
        self._ended = asyncio.Event()

    async def hear(self, told: asyncio.StreamReader) -> None:
        """Listen until its end, which closes the pipe."""
        async for line in told:
            match line.decode().split():
                case ["pid", pid]:
                    self.pid = int(pid)
                case ["online"]:
                    self._online.set()
                case [point]:
                    self.points.append(point)
        self._ended.set()
        self._online.set()

    async def online(self) -> None:
        """Wait until tasks come to it, or it is dead."""
        await self._within(self._online)

    async def ended(self) -> None:
        """Wait for its end."""
        await self._within(self._ended)

    async def kill(self) -> None:
        """End it, once tasks come to it."""
        await self.online()
        assert self.pid, "it was never born"
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    async def _within(self, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await event.wait()
        except TimeoutError:
            text = self.log.read_text() if self.log.exists() else ""
            raise AssertionError(f"{self.log}: it neither went on nor died: {self.points}\n{text[-4000:]}") from None


class Nursery:
    """Where agents come from."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._hearing: set[asyncio.Task[None]] = set()
        self._lives = itertools.count(1)

    async def agent(
        self,
        folder: Path,
        *,
        crash_at: str | None = None,
        from_start: bool = False,
        **settings: Any,  # noqa: ANN401
    ) -> Life:
        """Start an agent with its offline directory in `folder`, which dies right before the point `crash_at`."""
        number = next(self._lives)
        told, log = folder / f"life-{number}", folder / f"log-{number}"
        os.mkfifo(told)
        reader = asyncio.StreamReader()
        pipe = os.fdopen(os.open(told, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        life = Life(log)
        task = asyncio.create_task(life.hear(reader))
        self._hearing.add(task)
        task.add_done_callback(self._hearing.discard)
        order = {
            "told": str(told),
            "log": str(log),
            "crash_at": crash_at,
            "from_start": from_start,
            "settings": {"offline_dir": str(folder / "offline"), **settings},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        return life


def left_behind(folder: Path) -> Iterator[psutil.Process]:
    """Yield the processes that agents have started, whose offline directories are somewhere in `folder`, and left."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(LIFE, "").startswith(f"{folder}/"):
                yield process


@asynccontextmanager
async def make_nursery(folder: Path) -> AsyncIterator[Nursery]:
    """Hold a nursery for agents in `folder`; all that came from it ends with it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.crashing_agent",
        env=clean_environment({}),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Nursery(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        for left in left_behind(folder):
            with suppress(psutil.Error):
                left.kill()
