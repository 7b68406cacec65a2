"""The programs, each a process that is killed, frozen and started again, and whose whole log is kept in one file."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.support.programs import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

STOP_PATIENCE_SECONDS = 15.0
"""How long an agent may take to stop in order: three times what its phases add up to."""


class Program:
    """A program that is kept running, but for what is done to it here.

    Args:
        name: What it is called; its log is `<name>.log`.
        arguments: Of Python.
        settings: Of its environment.
        on_death: Told when it ends by itself: its name, and its exit code.

    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        settings: Mapping[str, str],
        folder: Path,
        on_death: Callable[[str, int], None],
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._settings = dict(settings)
        self._folder = folder
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._is_wanted = False

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it."""
        self._is_wanted = True
        with self.log.open("ab") as log:
            mark = f'{{"event": "chaos_start", "at": {time.monotonic():.3f}}}\n'
            log.write(mark.encode())
            log.flush()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments,
                env=clean_environment(self._settings),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watch = asyncio.create_task(self._on_end(self._process), name=f"watch-{self.name}")

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._is_wanted = False
        self._signal(signal.SIGKILL)
        await self._ended()

    async def stop(self) -> bool:
        """End it in order; return whether it did so in time."""
        self._is_wanted = False
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_PATIENCE_SECONDS):
                await self._ended()
        except TimeoutError:
            await self.kill()
            return False
        return True

    def freeze(self) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _ended(self) -> None:
        if self._process is not None:
            await self._process.wait()

    async def _on_end(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self._is_wanted and process is self._process:
            self._on_death(self.name, code)
            await asyncio.sleep(1)  # as a service manager would
            if self._is_wanted:
                await self.start()
