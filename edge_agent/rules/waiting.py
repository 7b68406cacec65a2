"""The queue of attempts that wait for a slot: highest priority first, then oldest."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.rules.attempts import Held, Ref


class Waiting:
    """Attempts in the order in which they are begun."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Ref]] = []
        self._held: dict[Ref, Held] = {}
        self._added = itertools.count()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, ref: Ref) -> bool:
        return ref in self._held

    def add(self, held: Held) -> None:
        """Put an attempt in."""
        self._held[held.ref] = held
        entry = (-held.spec.priority, held.accepted_at, next(self._added), held.ref)
        heapq.heappush(self._heap, entry)

    def pop(self) -> Held:
        """Take out the next one. Raises `IndexError` if there is none."""
        while True:
            held = self._held.pop(heapq.heappop(self._heap)[-1], None)
            if held is not None:
                return held

    def remove(self, ref: Ref) -> Held | None:
        """Take out one attempt; its entry in the heap is passed over later."""
        return self._held.pop(ref, None)

    def clear(self) -> list[Held]:
        """Take out all."""
        everything = list(self._held.values())
        self._held.clear()
        self._heap.clear()
        return everything
