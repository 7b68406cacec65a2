"""How much room tasks' logs take of the disk, and who makes some: whole logs of the past go, what is written stays."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.rules import logs as rules
from edge_agent.rules.logs import File

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MARK = "dropped"
"""The file whose time says until when whole logs were dropped to make room."""

NS_A_MS = 1_000_000

log = get_logger(__name__)


class LogRoom:
    """The room of the logs in one folder.

    Args:
        folder: Where they are.
        max_bytes: How much all of them may take together.

    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._taken: int | None = None

    def count(self) -> None:
        """Look how much is taken, if that is not known yet."""
        if self._taken is None:
            self._taken = sum(file.room for file in self._files())

    def take(self, count: int) -> None:
        """Note that a file has grown by what takes so much, or was begun."""
        self._taken = (self._taken or 0) + count

    def remove(self, file: File) -> None:
        """Remove a file."""
        self.path(file).unlink(missing_ok=True)
        self.take(-file.room)

    def path(self, file: File) -> Path:
        """Return where a file is."""
        return self.folder / rules.folder_name(file.log) / f"{file.log}.{file.start}{rules.SUFFIX}"

    # -- limits ------------------------------------------------------------------------------------------------------

    def see_that_there_is_some(self, size: int, being_written: Collection[str]) -> None:
        """See that the disk has room for `size` bytes beside what the journal may need. Raises `OSError` if not."""
        disk = shutil.disk_usage(self.folder.parent)
        lacking = rules.must_stay_free(disk.total) + size - disk.free
        if lacking > 0 and self._make(lacking, being_written) < lacking:
            raise OSError(errno.ENOSPC, "the disk is nearly full")

    def keep_to_the_limit(self, being_written: Collection[str]) -> None:
        """Drop what is over the limit of all logs."""
        if self._taken is not None and self._taken > self.max_bytes:
            self._try_to_make(self._taken - int(self.max_bytes * rules.KEPT_PARTS), being_written)

    def give_way(self, being_written: Collection[str]) -> None:
        """Drop old logs, as much as must stay free: each time that the journal has found no room."""
        self._try_to_make(rules.must_stay_free(shutil.disk_usage(self.folder.parent).total), being_written)

    def dropped_until(self) -> int | None:
        """Return until when, in milliseconds, whole logs were dropped to make room, if any were."""
        with contextlib.suppress(OSError):
            return (self.folder / MARK).stat().st_mtime_ns // NS_A_MS
        return None

    def _try_to_make(self, room: int, being_written: Collection[str]) -> None:
        try:
            self._make(room, being_written)
        except OSError as error:
            log.warning("task_logs_not_dropped", path=str(self.folder), reason=error.strerror)

    def _make(self, room: int, being_written: Collection[str]) -> int:
        """Drop whole logs, and return how much that has freed."""
        files = list(rules.to_go(self._files(), being_written, room))
        for file in files:
            self.remove(file)
        freed = sum(file.room for file in files)
        if files:
            self._note_dropped(max(file.written_at for file in files))
            log.info("task_logs_dropped", count=len({file.log for file in files}), bytes=freed)
        return freed

    def _note_dropped(self, at: int) -> None:
        mark = self.folder / MARK
        at = max(at, NS_A_MS * (self.dropped_until() or 0))
        with contextlib.suppress(OSError):  # it tells why a log is not there, and no more than that
            mark.touch(mode=0o600)
            os.utime(mark, ns=(at, at))

    def _files(self) -> Iterator[File]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from files_in(self.folder / entry.name)


def files_in(folder: Path) -> Iterator[File]:
    """Yield the logs' files that are in a folder."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            found = rules.read_name(entry.name)
            if found:
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    yield File(*found, stat.st_size, stat.st_mtime_ns)
