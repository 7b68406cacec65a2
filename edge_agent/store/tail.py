"""The newest events of a journal, in memory: what is sent at once is not read back from the disk."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TAIL_EVENTS = 4096
TAIL_BYTES = 1024 * 1024
"""How much is kept at most."""


class Tail:
    """Bodies by number, in order; everything from `begins` on is here, unless it is gone from the journal too."""

    def __init__(self, newest: int = 0) -> None:
        self.begins = newest + 1
        self._bodies: dict[int, bytes] = {}
        self._bytes = 0

    def add(self, seq: int, body: bytes) -> None:
        """Add the newest event."""
        self._bodies[seq] = body
        self._bytes += len(body)

    def trim(self) -> None:
        """Forget the oldest, where it is too much."""
        while len(self._bodies) > TAIL_EVENTS or self._bytes > TAIL_BYTES:
            self.begins = next(iter(self._bodies)) + 1
            self.forget(self.begins - 1)

    def forget(self, seq: int) -> None:
        """Forget an event that is gone."""
        self._bytes -= len(self._bodies.pop(seq, b""))

    def forget_through(self, seq: int) -> None:
        """Forget everything up to `seq`."""
        while self._bodies and (first := next(iter(self._bodies))) <= seq:
            self.forget(first)

    def replace(self, seq: int, body: bytes) -> None:
        """Put another body in the place of one that is here."""
        if seq in self._bodies:
            self._bytes += len(body) - len(self._bodies[seq])
            self._bodies[seq] = body

    def since(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield numbers and bodies from `start` on."""
        seq = start
        while (body := self._bodies.get(seq)) is not None:
            yield seq, body
            seq += 1
        numbers = list(self._bodies)  # a hole, or the end
        for number in numbers[bisect_left(numbers, seq) :]:
            yield number, self._bodies[number]
