"""When something is planned: the times of a job, in milliseconds of the calendar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Timing(Protocol):
    """When something is planned."""

    @property
    def follows_clock(self) -> bool:
        """Whether it means times of the calendar. Else only distances count: it moves along when the clock is set."""

    def after(self, at: int) -> int | None:
        """Return the first time after `at`; None if there is none."""

    def latest(self, after: int, until: int) -> int | None:
        """Return the last time after `after` and not after `until`; None if there is none."""


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again after `interval_ms`; with a `start_ms`, at that time and in steps from it."""

    interval_ms: int
    start_ms: int | None = None

    @property
    def follows_clock(self) -> bool:
        """Whether it means times of the calendar."""
        return self.start_ms is not None

    def after(self, at: int) -> int:
        """Return the first time after `at`, which is one as well, or the anchor."""
        if self.start_ms is None:
            return at + self.interval_ms
        return self.start_ms + max(0, (at - self.start_ms) // self.interval_ms + 1) * self.interval_ms

    def latest(self, after: int, until: int) -> int | None:
        """Return the last time after `after` and not after `until`."""
        first = self.after(after)
        return None if first > until else first + (until - first) // self.interval_ms * self.interval_ms
