"""The output of tasks, kept in files under a size limit: `TaskContext.output` writes it, the hub asks for it.

One thread writes and reads, because an SD card can stall for 50 ms. What waits for it is bounded: who can wait does
(`Log.drained`), and of what comes faster than the disk takes it the log says how much is missing. Nothing is synced: a
log may lack its last second after a power cut. The journal waits for none of this, and has the disk first.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.store.logfiles import LogFiles, Part
from edge_agent.store.logwriter import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_agent.rules.attempts import Ref

__all__ = ["Log", "Logs", "Part"]

CLOSE_SECONDS = 2.0
"""How long a disk that does not answer can hold up who stops."""

log = get_logger(__name__)


class Log:
    """The log of one attempt, from `Logs.begin` to `Logs.end`; `write` may be called from any thread."""

    __slots__ = ("_logs", "is_open", "ref")

    def __init__(self, ref: Ref, logs: Logs) -> None:
        self.ref = ref
        self.is_open = True
        self._logs = logs

    def write(self, data: bytes) -> None:
        """Take output. It never blocks and never raises; after the end of the attempt it does nothing."""
        if self.is_open and data:
            self._logs.writer.put(self.ref, data, lambda: self.is_open)

    async def drained(self) -> None:
        """Return when there is room for more: at once, but for who writes faster than the disk."""
        has_room = self._logs.writer.has_room
        if not has_room(self.ref):
            await self._logs.until(lambda: has_room(self.ref))

    async def size(self) -> int:
        """Return how many bytes were taken, in earlier runs of the agent too; 0 if the disk does not say."""
        try:
            return (await self._logs.read(self.ref, None, limit=0)).size
        except OSError as error:
            log.warning("task_log_not_read", task=self.ref.task, reason=str(error))
            return 0


class Logs:
    """All logs of this worker.

    Args:
        folder: Where they are; it is made with the first of them.
        max_bytes: How large one may be,
        max_total_bytes: and all together.

    """

    def __init__(self, folder: Path, *, max_bytes: int, max_total_bytes: int) -> None:
        self._files = LogFiles(folder, max_bytes=max_bytes, max_total_bytes=max_total_bytes)
        self.writer = LogWriter(self._files, self._tell_round)
        self._open: dict[Ref, Log] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._round: asyncio.Future[None] | None = None

    def begin(self, ref: Ref) -> Log:
        """Return the log of an attempt that begins, or goes on. There is no file before there is output."""
        one = self._open[ref] = Log(ref, self)
        return one

    def end(self, ref: Ref) -> None:
        """End a log: what was taken is written, and nothing more is taken."""
        one = self._open.pop(ref, None)
        if one is not None:
            one.is_open = False
            self.writer.end(ref)
            self._on_round()

    def is_open(self, ref: Ref) -> bool:
        """Tell whether more may come."""
        return ref in self._open

    async def read(self, ref: Ref, offset: int | None, *, tail: int = 0, limit: int) -> Part:
        """Return up to `limit` bytes from `offset`, or from `tail` bytes before the end of what was taken by now.

        Raises:
            OSError: If the disk does not give it.

        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Part] = loop.create_future()
        self.writer.call(partial(self._read, loop, answer, partial(self._files.read, ref, offset, tail, limit)))
        return await answer

    async def wait_for_more(self, ref: Ref, offset: int, may_grow: Callable[[], bool], seconds: float) -> None:
        """Return when there is output behind `offset`, when no more may come, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.until(lambda: self.writer.ends.get(ref, 0) > offset or not may_grow())

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when `is_so`: it is asked again whenever something was written, or a log has ended."""
        while True:
            if self._round is None:
                self._loop = asyncio.get_running_loop()
                self._round = self._loop.create_future()
            following = self._round  # it is there before the question: a round that ends in between is not missed
            if is_so():
                return
            await asyncio.shield(following)

    def give_way(self) -> None:
        """Drop old logs: the journal finds no room on the disk."""
        self.writer.call(self._files.give_way)

    async def close(self) -> None:
        """Write what was taken, and close the files; a disk that does not answer is not waited for for long."""
        await asyncio.to_thread(self.writer.close, CLOSE_SECONDS)

    def _on_round(self) -> None:
        if self._round is not None:
            self._round.set_result(None)
            self._round = None

    # -- in the writer's thread --------------------------------------------------------------------------------------

    def _tell_round(self) -> None:
        if self._round is not None and self._loop is not None:
            _post(self._loop, self._on_round)

    @staticmethod
    def _read(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Part], read: Callable[[], Part]) -> None:
        try:
            part = read()
        except OSError as error:
            _post(loop, partial(_settle, answer, error))
        else:
            _post(loop, partial(_settle, answer, part))


def _settle(answer: asyncio.Future[Part], result: Part | OSError) -> None:
    if answer.done():
        return  # nobody waits any more
    if isinstance(result, OSError):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _post(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(call)
