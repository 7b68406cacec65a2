"""What is leased of a journal: the events of one batch, as they go to the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BATCH_EVENTS = 500
BATCH_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Lease:
    """Events behind `after`, in order, each as JSON; everything between `after` and `first` is gone.

    Attributes:
        numbers: The number of each event, where some between them are gone; else they follow each other.

    """

    after: int
    first: int
    events: tuple[bytes, ...]
    numbers: tuple[int, ...] | None = None

    @property
    def last(self) -> int:
        """The sequence number of the last event."""
        return self.numbers[-1] if self.numbers else self.first + len(self.events) - 1

    def payload(self, stream: str) -> bytes:
        """Return the events as a `broker.messages.Batch`."""
        after = f'"after":{self.after},' if self.after != self.first - 1 else ""
        numbers = f'"numbers":[{",".join(map(str, self.numbers))}],' if self.numbers else ""
        head = f'{{"stream":"{stream}","first":{self.first},{after}{numbers}"events":['
        return head.encode() + b",".join(self.events) + b"]}"


def fill(after: int, rows: Iterable[tuple[int, bytes]], limit: int, size: int) -> Lease | None:
    """Take rows, each a number and a body, while they fit: at least one, if there is one."""
    total = 0
    numbers: list[int] = []
    events: list[bytes] = []
    for seq, body in rows:
        if events and (len(events) >= limit or total + len(body) > size):
            break
        numbers.append(seq)
        events.append(body)
        total += len(body)
    if not events:
        return None
    has_holes = numbers[-1] - numbers[0] >= len(numbers)
    return Lease(after, numbers[0], tuple(events), tuple(numbers) if has_holes else None)
