"""The thread that writes tasks' logs, and what waits for it: bounded, whatever comes and however slow the disk is."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.rules.logs import left_out
from edge_agent.store.logfiles import NotTaken

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.rules.attempts import Ref
    from edge_agent.store.logfiles import LogFiles

WAITING_BYTES = 1024 * 1024
"""How much of one log may wait to be written."""

ENOUGH_BYTES = 256 * 1024
"""With so much waiting it is written at once, and who can wait does."""

ALL_WAITING_BYTES = 16 * 1024 * 1024
"""How much of all logs together may wait."""

LINGER_SECONDS = 0.02
"""How long a little output waits for more."""

TOO_FAST = "they came faster than the disk took them"

log = get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    """What waits of one log, and how many bytes that came after it are lost."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    lost: int = 0


class LogWriter:
    """Writes logs; `put`, `end` and `call` may be called from any thread, and never block for the disk.

    Args:
        files: The logs.
        on_round: Called in the writer's thread whenever it has written.

    Attributes:
        ends: How far each log that is being written has been written.

    """

    def __init__(self, files: LogFiles, on_round: Callable[[], None]) -> None:
        self._files = files
        self._on_round = on_round
        self._lock = threading.Condition()
        self._waiting: dict[Ref, _Waiting] = {}
        self._size = 0
        self._begun: set[Ref] = set()
        self._ended: list[Ref] = []
        self._calls: list[Callable[[], None]] = []
        self._hurry = self._closing = False
        self._owed: dict[Ref, tuple[int, str]] = {}
        self._thread: threading.Thread | None = None
        self.ends: dict[Ref, int] = {}

    def put(self, ref: Ref, data: bytes, is_open: Callable[[], bool]) -> None:
        """Take what is to be written, while `is_open`; as much of it as there is room for."""
        with self._lock:
            if self._closing or not is_open():  # asked here: what came behind `end` would open the log again
                return
            self._begun.add(ref)
            one = self._waiting.setdefault(ref, _Waiting())
            room = min(WAITING_BYTES - one.size, ALL_WAITING_BYTES - self._size)
            # What comes after a gap is lost with it, until the gap is written: so the log says where it was.
            kept = b"" if one.lost else bytes(data[: max(0, room)])
            one.lost += len(data) - len(kept)
            if kept:
                one.chunks.append(kept)
            one.size += len(kept)
            self._size += len(kept)
            self._wake(hurry=one.size >= ENOUGH_BYTES)

    def has_room(self, ref: Ref) -> bool:
        """Tell whether more of a log should come."""
        one = self._waiting.get(ref)
        if self._closing:
            return True
        return self._size < ALL_WAITING_BYTES // 2 and (one is None or one.size < ENOUGH_BYTES)

    def end(self, ref: Ref) -> None:
        """Close a log, when all of it is written."""
        with self._lock:
            if ref in self._begun:  # its output may be in the thread's hands, where nothing else tells of it yet
                self._begun.remove(ref)
                self._ended.append(ref)
                self._wake(hurry=True)

    def call(self, work: Callable[[], None]) -> None:
        """Do `work`, which must not raise, in the writer's thread, after all that was put before it."""
        with self._lock:
            self._calls.append(work)
            self._wake(hurry=True)

    def close(self, seconds: float) -> None:
        """Write what there is, and end; return after `seconds` even if the disk does not answer."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join(seconds)

    def _wake(self, *, hurry: bool) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="task-logs", daemon=True)
            self._thread.start()
        self._hurry |= hurry
        self._lock.notify()

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._ended or self._calls or self._closing)
                self._lock.wait_for(lambda: self._hurry or self._closing, LINGER_SECONDS)
                waiting, ended, calls, closing = self._waiting, self._ended, self._calls, self._closing
                self._waiting, self._ended, self._calls, self._size, self._hurry = {}, [], [], 0, False
            self._work_off(waiting, ended, calls)
            self._on_round()
            if closing:
                self._files.close_all()
                return

    def _work_off(self, waiting: dict[Ref, _Waiting], ended: list[Ref], calls: list[Callable[[], None]]) -> None:
        work: list[Callable[[], None]] = [partial(self._write, ref, one) for ref, one in waiting.items()]
        work += [partial(self._end, ref) for ref in ended]
        for one_of_it in work + calls:
            try:
                one_of_it()
            except Exception:
                log.exception("task_logs_failed")  # whoever waits for the rest, or for room, must not wait for ever

    def _write(self, ref: Ref, one: _Waiting) -> None:
        self._append(ref, b"".join(one.chunks))
        if one.lost:
            self._owe(ref, one.lost, TOO_FAST)

    def _append(self, ref: Ref, data: bytes) -> None:
        try:
            if ref in self._owed:
                self._files.append(ref, left_out(*self._owed[ref]))
                del self._owed[ref]
            self.ends[ref] = self._files.append(ref, data)
        except NotTaken as error:
            if ref not in self._owed:
                log.warning("task_output_left_out", task=ref.task, attempt=ref.attempt, reason=error.reason)
            self._owe(ref, len(data) - error.written, error.reason)

    def _owe(self, ref: Ref, count: int, reason: str) -> None:
        before, _ = self._owed.get(ref, (0, ""))
        self._owed[ref] = before + count, reason

    def _end(self, ref: Ref) -> None:
        owed = self._owed.pop(ref, None)
        if owed:
            try:
                self._files.append(ref, left_out(*owed), even_if_low=True)
            except NotTaken as error:
                log.warning("task_output_lost", task=ref.task, attempt=ref.attempt, bytes=owed[0], reason=error.reason)
        self._files.close(ref)
        self.ends.pop(ref, None)
