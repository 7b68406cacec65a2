"""A clock that a process believes in, whatever the time is."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class WrongClock:
    """A clock that a process believes in (libfaketime); it can be set at any time."""

    def __init__(self, file: Path, library: str, offset: str) -> None:
        self._file = file
        self._library = library
        self.set(offset)

    def set(self, offset: str) -> None:
        """Set the clock to the true time and `offset`, as `+3600` seconds."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{offset}\n")
        beside.replace(self._file)

    def set_to(self, moment: str) -> None:
        """Set the clock to a time as RFC 3339 has it; it goes on from there."""
        self.set(f"{datetime.fromisoformat(moment).timestamp() - time.time():+.3f}")

    @property
    def environment(self) -> dict[str, str]:
        """What a process must have to believe in it. Its steady clock stays true, as when a person sets a real one."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
