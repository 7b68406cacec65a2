"""Where a container's output goes: its end to the result, all of it to the attempt's log, and nothing of it twice."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from edge_agent.executors.output import Tail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import JsonValue

    from edge_agent.context import TaskContext

DRAIN_BYTES = 256 * 1024
"""After how much it is seen whether the log has room."""

DRAIN_SECONDS = 60.0
"""How long a disk may take; then the container is not held up any longer, and the log says what it lacks."""


class Sink:
    """Takes output, which may come again from its beginning after the connection to the engine was lost.

    Args:
        context: Whose log it goes to.
        logged: How much of it the log has already, from an earlier run of the agent.

    """

    def __init__(self, context: TaskContext, logged: int = 0) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._tail = Tail()
        self._tailed = 0
        self._logged = logged
        self._source: object = None

    def take(self, source: Iterable[bytes]) -> None:
        """Take all of a stream that begins where the output does. It blocks, and ends early once another is taken."""
        with self._lock:
            self._source = source
        position = drained_at = 0
        for data in source:
            if not self._add(source, position, data):
                return
            position += len(data)
            if position >= drained_at + DRAIN_BYTES:
                drained_at = position
                self._drain()

    def result(self, exit_code: int | None, *, is_whole: bool = True) -> JsonValue:
        """Return what the task's result says; of output that is not whole, that it is cut."""
        with self._lock:
            is_cut = self._tail.truncated or not is_whole
            return {"exit_code": exit_code, "output": self._tail.text(), "truncated": is_cut}

    def _add(self, source: object, position: int, data: bytes) -> bool:
        with self._lock:
            if source is not self._source:
                return False
            end = position + len(data)
            self._tail.add(data[max(0, self._tailed - position) :])
            self._tailed = max(self._tailed, end)
            self._context.output(data[max(0, self._logged - position) :])
            self._logged = max(self._logged, end)
            return True

    def _drain(self) -> None:
        """Let the container wait for the disk: the engine holds what is not read, and its writes block."""
        try:
            asyncio.run_coroutine_threadsafe(self._drained(), self._loop).result(DRAIN_SECONDS)
        except TimeoutError:
            return

    async def _drained(self) -> None:
        await self._context.drained()
