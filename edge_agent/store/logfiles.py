"""Tasks' logs on the disk, for the one thread that writes and reads them (`edge_agent.logs`).

Nothing is synced: a log may lose its last second in a power cut, and an SD card is spared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.rules import logs as rules
from edge_agent.rules.logs import File
from edge_agent.store.logroom import LogRoom, files_in

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.rules.attempts import Ref


@dataclass(frozen=True, slots=True)
class Part:
    """What was read of a log.

    Attributes:
        offset: Of the first byte of `data`, from the beginning of the attempt's output.
        data: What was read; nothing at the end.
        first: The offset of the first byte that is kept.
        size: The offset that the next byte to be written has.
        is_kept: Whether there is a log at all.
        dropped_until: Until when, in milliseconds, whole logs were dropped to make room, if any were.

    """

    offset: int
    data: bytes
    first: int
    size: int
    is_kept: bool
    dropped_until: int | None = None


@dataclass(slots=True)
class _Open:
    """A log that is being written: its last file, and where the ones before it begin."""

    log: str
    descriptor: int
    start: int
    size: int
    older: list[File] = field(default_factory=list)

    @property
    def last(self) -> File:
        """Its last file."""
        return File(self.log, self.start, self.size, 0)


class NotTaken(Exception):
    """The disk has not taken all that was to be written; `written` bytes of it are there."""

    def __init__(self, written: int, reason: str) -> None:
        super().__init__(reason)
        self.written = written
        self.reason = reason


class LogFiles:
    """The logs in one folder, which is made with the first of them.

    Args:
        folder: Where they are.
        max_bytes: How large one may be,
        max_total_bytes: and all together.

    """

    def __init__(self, folder: Path, *, max_bytes: int, max_total_bytes: int) -> None:
        self._room = LogRoom(folder, max_total_bytes)
        self._max_bytes = max_bytes
        self._open: dict[Ref, _Open] = {}

    def append(self, ref: Ref, data: bytes, *, even_if_low: bool = False) -> int:
        """Write to the end of a log, and return the offset behind it.

        Raises:
            NotTaken: If the disk does not take all of it, or if it would leave less free than the journal may need;
                `even_if_low` it may.

        """
        written = 0
        try:
            if not even_if_low:
                self._room.see_that_there_is_some(len(data), self._being_written())
            one = self._open.get(ref) or self._begin(ref)
            while written < len(data):
                written += self._write(one, memoryview(data)[written:])
        except OSError as error:
            raise NotTaken(written, (error.strerror or str(error)).lower()) from None
        self._room.keep_to_the_limit(self._being_written())
        return one.start + one.size

    def give_way(self) -> None:
        """Drop old logs: the journal has found no room on the disk."""
        self._room.give_way(self._being_written())

    def close(self, ref: Ref) -> None:
        """End a log."""
        one = self._open.pop(ref, None)
        if one is not None:
            os.close(one.descriptor)

    def close_all(self) -> None:
        """End every log."""
        for ref in list(self._open):
            self.close(ref)

    def read(self, ref: Ref, offset: int | None, tail: int, limit: int) -> Part:
        """Return up to `limit` bytes from `offset`, or from `tail` bytes before the end where that is None.

        What is not kept any more is skipped. Raises `OSError`.
        """
        files = self._files_of(rules.log_name(*ref))
        if not files:
            return Part(0, b"", 0, 0, is_kept=False, dropped_until=self._room.dropped_until())
        first, size = files[0].start, files[-1].start + files[-1].size
        start = min(size, max(first, size - tail if offset is None else offset))
        file = next((file for file in reversed(files) if file.start <= start), files[0])
        with self._room.path(file).open("rb") as source:
            source.seek(start - file.start)
            data = source.read(limit)
        if not data and start < size:  # between two files, if the first of them was cut short
            start = min((file.start for file in files if file.start > start), default=size)
        return Part(start, data, first, size, is_kept=True)

    # -- files -------------------------------------------------------------------------------------------------------

    def _begin(self, ref: Ref) -> _Open:
        """Go on with a log where an earlier run of the agent has left it, or begin it."""
        self._room.count()
        name = rules.log_name(*ref)
        *older, last = self._files_of(name) or [File(name, 0, 0, 0)]
        descriptor = self._create(last)
        self._open[ref] = one = _Open(name, descriptor, last.start, last.size, older)
        if not last.size:
            self._room.take(last.room)
        return one

    def _write(self, one: _Open, data: memoryview) -> int:
        """Write to the last file what there is room for in it, and return how much that was."""
        room = rules.file_bytes(self._max_bytes, self._room.max_bytes, len(self._open)) - one.size
        if room <= 0:
            self._next_file(one)
            return 0
        before = one.last.room
        written = os.write(one.descriptor, data[:room])
        one.size += written
        self._room.take(one.last.room - before)
        return written

    def _next_file(self, one: _Open) -> None:
        """Begin the next file of a log, and drop what is too old for it."""
        following = File(one.log, one.start + one.size, 0, 0)
        descriptor = self._create(following)
        os.close(one.descriptor)
        one.older.append(one.last)
        one.descriptor, one.start, one.size = descriptor, following.start, 0
        self._room.take(following.room)
        while len(one.older) >= rules.FILES_A_LOG:
            self._room.remove(one.older.pop(0))

    def _create(self, file: File) -> int:
        path = self._room.path(file)
        for folder in (self._room.folder, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _files_of(self, name: str) -> list[File]:
        found = files_in(self._room.folder / rules.folder_name(name))
        return sorted((file for file in found if file.log == name), key=lambda file: file.start)

    def _being_written(self) -> set[str]:
        return {one.log for one in self._open.values()}
