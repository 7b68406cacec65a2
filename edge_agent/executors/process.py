"""A command's process: how it is started, read, and ended with all that has come of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self

from broker.log import get_logger
from edge_agent.executors import leftover
from edge_agent.executors.leftover import MARK

if TYPE_CHECKING:
    from asyncio import StreamReader
    from asyncio.subprocess import Process as Child
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from edge_agent.executors.account import Account
    from edge_agent.executors.leftover import Handle

LAST_OUTPUT_SECONDS = 1.0
"""How long the output is read on after all was ended."""

GONE_SECONDS = 1.0
"""How long it is waited for the system to take away who has ended: until then it counts for its user's limit."""

_LOOK_SECONDS = 0.01

CHUNK_BYTES = 64 * 1024

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is started for a task: `argv` as it is, with nothing in its environment but this.

    `cwd` and `account` are the agent's own where they are None.
    """

    task: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: str | None = None
    stdin: str | None = None
    account: Account | None = None


class Process:
    """A process group of its own, both of whose streams come as one."""

    def __init__(
        self, child: Child, task: str, handle: Handle, output: StreamReader, pipe: asyncio.ReadTransport
    ) -> None:
        self.pid = child.pid
        self._child = child
        self._task = task
        self._handle = handle
        self._output = output
        self._pipe = pipe
        self._reading: asyncio.Task[None] | None = None
        self._is_over = False

    @classmethod
    async def start(cls, start: Start, handle: Handle) -> Self:
        """Start it. If it cannot be started, nothing of it runs.

        The pipe is ours and not asyncio's, whose `Process.wait` waits for the end of its pipes too (Python 3.11): a
        command that left somebody behind would never end.
        """
        reading, writing = os.pipe()
        source = os.fdopen(reading, "rb", buffering=0)
        pipe: asyncio.ReadTransport | None = None
        output = asyncio.StreamReader(limit=CHUNK_BYTES)
        try:
            loop = asyncio.get_running_loop()
            pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), source)
            child = await _spawn(start, handle, writing)  # the last thing that may fail
        except BaseException:
            (pipe or source).close()
            raise
        finally:
            os.close(writing)
        return cls(child, start.task, handle, output, pipe)

    async def see_through(self, take: Callable[[bytes], Awaitable[None]], grace_seconds: float) -> int:
        """Give the output to `take` until the process ends, end what it left behind, and return its exit code.

        Who takes the output may let it wait, and then the command waits.
        """
        self._reading = asyncio.create_task(self._read(take), name=f"output-{self.pid}")
        exit_code = await self._child.wait()
        await asyncio.shield(self._end_the_rest(grace_seconds))
        await self._read_the_rest()
        return exit_code

    async def end(self, grace_seconds: float) -> None:
        """End all of it, if it has not ended: ask, and after `grace_seconds` do not ask. Close its output."""
        if not self._is_over:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._child.wait()
            await self._end_the_rest(grace_seconds)
            await self._child.wait()
            await self._read_the_rest()
        if self._reading is not None:
            self._reading.cancel()
        self._pipe.close()

    async def _read(self, take: Callable[[bytes], Awaitable[None]]) -> None:
        while data := await self._output.read(CHUNK_BYTES):
            await take(data)

    async def _read_the_rest(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=LAST_OUTPUT_SECONDS)
            if self._reading.done():
                self._reading.result()

    async def _end_the_rest(self, grace_seconds: float) -> None:
        """End what is left: of the group at once, and then whoever has left that, and still has the mark."""
        self._signal(signal.SIGKILL)  # nobody in the group forks past it: the kernel lets no fork by a pending signal
        await end_leftovers(self._handle.without_leader(), grace_seconds, self._task)
        await self._until_gone()
        self._is_over = True

    async def _until_gone(self) -> None:
        """Wait for the group to be gone: what follows has the room that its user's limit leaves.

        It looks, since they are no children, whose end would be told. Where nobody takes them away, as in a container
        without an init, it waits no longer.
        """
        with contextlib.suppress(TimeoutError, ProcessLookupError, PermissionError):
            async with asyncio.timeout(GONE_SECONDS):
                while True:
                    os.killpg(self.pid, 0)
                    await asyncio.sleep(_LOOK_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


async def end_leftovers(handle: Handle, grace_seconds: float, task: str) -> None:
    """End what is left of a command, and tell if there was something."""
    found, alive = await asyncio.to_thread(leftover.end, handle, grace_seconds)
    if alive:
        log.error("command_left_running", task=task, pids=alive, reason="it could not be ended")
    elif found:
        log.warning("command_left_over_ended", task=task, pids=found)


async def _spawn(start: Start, handle: Handle, output: int) -> Child:
    account = start.account if start.account and start.account.is_another else None
    with _stdin(start.stdin) as stdin:
        return await asyncio.create_subprocess_exec(
            *start.argv,
            cwd=start.cwd,
            env={**start.environment, MARK: handle.mark},
            stdin=stdin,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=account.groups if account else None,
        )


@contextlib.contextmanager
def _stdin(text: str | None) -> Iterator[IO[bytes] | int]:
    """Give what a command reads: a file, so that nobody has to feed it."""
    if text is None:
        yield DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file
