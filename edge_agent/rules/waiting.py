"""The queue of attempts that wait for a slot: highest priority first, then oldest, as `broker.priority` weighs them."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

from broker.priority import rank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from edge_agent.rules.attempts import Held, Ref

    Entry = tuple[int, int, Ref]
    """How an attempt ranks, and when it came."""


class Waiting:
    """Attempts in the order in which they are begun.

    Args:
        limited: Kinds of which only some may run at one time. Each waits in a line of its own.

    """

    def __init__(self, limited: Iterable[str] = ()) -> None:
        self._common: list[Entry] = []
        self._lines: dict[str, list[Entry]] = {"": self._common, **{kind: [] for kind in limited}}
        self._held: dict[Ref, Held] = {}
        self._added = itertools.count()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, ref: Ref) -> bool:
        return ref in self._held

    def add(self, held: Held) -> None:
        """Put an attempt in."""
        self._held[held.ref] = held
        line = self._lines.get(held.spec.kind, self._common)
        heapq.heappush(line, (rank(held.spec.priority, held.accepted_at), next(self._added), held.ref))

    def is_ready(self, full: Collection[str] = ()) -> bool:
        """Tell whether there is a next one, of a kind that is not in `full`."""
        return self._first(full) is not None

    def pop(self, full: Collection[str] = ()) -> Held:
        """Take out the next one of a kind that is not in `full`. Raises `IndexError` if there is none."""
        line = self._first(full)
        if line is None:
            raise IndexError("nothing waits that may begin")
        return self._held.pop(heapq.heappop(line)[-1])

    def remove(self, ref: Ref) -> Held | None:
        """Take out one attempt; its entry in the heap is passed over later."""
        return self._held.pop(ref, None)

    def clear(self) -> list[Held]:
        """Take out all."""
        everything = list(self._held.values())
        self._held.clear()
        for line in self._lines.values():
            line.clear()
        return everything

    def _first(self, full: Collection[str]) -> list[Entry] | None:
        """Return the line whose first goes before all others that may begin."""
        first = None
        for kind, line in self._lines.items():
            while line and line[0][-1] not in self._held:  # it was removed
                heapq.heappop(line)
            if line and kind not in full and (first is None or line[0] < first[0]):
                first = line
        return first
