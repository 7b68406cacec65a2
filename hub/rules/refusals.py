"""What of many refusals goes into the audit trail: the first of each sort at once, and how many more there were.

So a flood of them fills neither memory nor database: a minute has at most `2 * MAX_SORTS + 1` lines. Pure bookkeeping:
the time is an argument, and what it returns is to be written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.rules.audit import ANONYMOUS, Entry, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW_MS = 60_000
"""Refusals of one sort within so long are told together."""

MAX_SORTS = 32
"""Sorts that are told apart in a window; what else comes is counted together."""

FLOOD = "request.flood"


class Refusals:
    """Counts refusals by who, what, whence and why."""

    def __init__(self, *, window_ms: int = WINDOW_MS, sorts: int = MAX_SORTS) -> None:
        self._window_ms = window_ms
        self._most = sorts
        self._more: dict[Entry, int] = {}
        self._others = 0
        self._began_ms: int | None = None

    def count(self, refusal: Entry, now_ms: int) -> list[Entry]:
        """Count one; return what is to be written now."""
        due = self.due(now_ms)
        if self._began_ms is None:
            self._began_ms = now_ms
        if refusal in self._more:
            self._more[refusal] += 1
        elif len(self._more) < self._most:
            self._more[refusal] = 0
            due.append(refusal)
        else:
            self._others += 1
        return due

    def due(self, now_ms: int) -> list[Entry]:
        """Return what is to be written once a window has ended."""
        if self._began_ms is None or now_ms - self._began_ms < self._window_ms:
            return []
        return self.close()

    def close(self) -> list[Entry]:
        """End the window, and return what is to be written of it."""
        ended = list(self._told())
        self._more.clear()
        self._others, self._began_ms = 0, None
        return ended

    def _told(self) -> Iterator[Entry]:
        seconds = self._window_ms // 1000
        for refusal, more in self._more.items():
            if more:
                detail = f"{more} more within {seconds} s: {refusal.detail or ''}".removesuffix(": ")
                yield refusal._replace(detail=detail)
        if self._others:
            yield Entry(
                ANONYMOUS, FLOOD, None, Outcome.REFUSED, detail=f"{self._others} of other sorts within {seconds} s"
            )
