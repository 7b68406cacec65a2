"""Things by a key that changes behind their back, the least first."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

SLACK = 64
"""So many entries that count no more are left in a heap, and as many as count, before it is made anew."""

Item = TypeVar("Item", bound="Hashable")
Key = TypeVar("Key", bound=tuple[Any, ...])


class Standings(Generic[Item, Key]):
    """A heap that is put right where it is looked at.

    A key that has grown, or is None, is noticed when its item comes up; one that has become less must be told. So a
    change costs nothing, or a push, and the first item is had for what changed before it.

    Args:
        key: Returns the key of an item as it is now; None where it does not count at the moment.

    """

    def __init__(self, key: Callable[[Item], Key | None]) -> None:
        self._key = key
        self._heap: list[tuple[Key, int, Item]] = []
        self._known: dict[Item, tuple[Key, int, Item]] = {}
        self._pushes = itertools.count()

    def __contains__(self, item: Item) -> bool:
        """Tell whether an item counts, as far as is known: it stands no later than it should."""
        return item in self._known

    def tell(self, item: Item) -> bool:
        """Note that the key of an item may have become less, or may count now; tell whether it goes further up.

        Where it does not, it stands no later than it should already.
        """
        key = self._key(item)
        if key is None:
            self.forget(item)
            return False
        known = self._known.get(item)
        if known is not None and known[0] <= key:
            return False
        self._push(key, item)
        if len(self._heap) > 2 * len(self._known) + SLACK:
            self._heap = list(self._known.values())
            heapq.heapify(self._heap)
        return True

    def forget(self, item: Item) -> None:
        """Take an item out; its entry in the heap is passed over later."""
        self._known.pop(item, None)

    def first(self) -> Item | None:
        """Return the item with the least key."""
        heap = self._heap
        while heap:
            entry = heap[0]
            item = entry[2]
            if self._known.get(item) is not entry:
                heapq.heappop(heap)
                continue
            key = self._key(item)
            if key == entry[0]:
                return item
            heapq.heappop(heap)
            if key is None:
                del self._known[item]
            else:
                self._push(key, item)
        return None

    def in_order(self) -> Iterator[Item]:
        """Yield every item that counts, from the first on. Nothing may be told meanwhile."""
        aside = []
        try:
            while (item := self.first()) is not None:
                aside.append(heapq.heappop(self._heap))
                yield item
        finally:
            for entry in aside:
                heapq.heappush(self._heap, entry)

    def _push(self, key: Key, item: Item) -> None:
        entry = self._known[item] = (key, next(self._pushes), item)
        heapq.heappush(self._heap, entry)
