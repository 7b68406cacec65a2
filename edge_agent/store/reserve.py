"""A file that is in the way on purpose: on a full disk it is removed, and there is room to make room."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_BYTES = 1024 * 1024
FREE_FOR_RESERVE = 2
"""How many times its size must be free before it is made again, so that it fills no disk by itself."""


class Reserve:
    """The file `reserve` beside the database.

    Attributes:
        is_there: Whether there is something to give up.

    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "reserve"
        self.is_there = self._file.exists()

    def make(self) -> bool:
        """Make the file if there is room for it; tell whether it is there."""
        if self.is_there:
            return True
        try:
            if shutil.disk_usage(self._file.parent).free < FREE_FOR_RESERVE * RESERVE_BYTES:
                return False
            self._write()
        except OSError:
            self.give_up()  # what was written of it
            return False
        self.is_there = True
        return True

    def give_up(self) -> bool:
        """Remove the file; tell whether it was there."""
        self.is_there = False
        with contextlib.suppress(OSError):
            self._file.unlink()
            return True
        return False

    def _write(self) -> None:
        with self._file.open("wb") as file:
            # Written, not only made long: a hole in a file holds no room.
            file.write(os.urandom(RESERVE_BYTES))  # and of what no file system can compress
            file.flush()
            os.fsync(file.fileno())
