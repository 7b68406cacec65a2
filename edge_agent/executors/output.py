"""The end of a task's output, for its result: the whole of it goes to the attempt's log (`TaskContext.output`)."""

from __future__ import annotations

OUTPUT_BYTES = 64 * 1024
"""How much of the output a result holds: the end, where a failure says why."""

UNKNOWN = "\ufffd"
ESCAPE = "\x1b"

_CONTROLS = dict.fromkeys({*range(32)} - {*map(ord, f"\t\n\r{ESCAPE}")}, UNKNOWN)
"""What is no text. In JSON each is six bytes, so that a result would be too large, and no database takes a NUL."""


class Tail:
    """The last `limit` bytes of what was added, in bounded memory.

    >>> tail = Tail(4)
    >>> tail.add(b"one two")
    >>> tail.text(), tail.truncated
    (' two', True)

    Attributes:
        truncated: Whether something was before them.

    """

    def __init__(self, limit: int = OUTPUT_BYTES) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.truncated = False

    def add(self, data: bytes) -> None:
        """Add what comes next."""
        self._kept += data
        if len(self._kept) > self._limit:
            del self._kept[: len(self._kept) - self._limit]
            self.truncated = True

    def text(self) -> str:
        """Return what is kept, with U+FFFD for what is no text. As JSON it is less than four times as long."""
        text = self._kept.decode("utf-8", "replace").translate(_CONTROLS)
        # Colours have an escape here and there; of nothing but escapes there is nothing to see.
        return text.replace(ESCAPE, UNKNOWN) if text.count(ESCAPE) > len(text) // 8 else text
