"""What a journal gives up when it is full: the lowest class first, the oldest first, in slices (DESIGN §5).

A slice is more than what is over the limit, so that one gap event stands for many events, and the next one is far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from broker.messages import (
    Dropped,
    FactObserved,
    Gap,
    IncidentCleared,
    IncidentRaised,
    ScheduleSkipped,
    TaskProgress,
    TaskStarted,
    WorkerStarted,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.messages import Event

SLICE_SHARE = 0.05
MAX_SLICE_BYTES = 4 * 1024 * 1024
MAX_SLICE_ROWS = 2000
"""How much goes at one time, as a share of the limit, and at most: it goes in one transaction, and others wait.

The rows of a class can lie far apart, each on a page of its own, and each page that is touched is written.
"""

DISK_SLICE_BYTES = 256 * 1024
DISK_SLICE_ROWS = 64
"""How much goes at one time where the disk is full: the pages of its transaction must fit into the reserve."""


class Class(IntEnum):
    """What an event is worth; the lowest goes first, and marks are never dropped.

    The numbers are in the database: `journal.class`.
    """

    PROGRESS = 0
    FACTS = 1
    INCIDENTS = 2
    RESULTS = 3
    MARKS = 4


BY_LIMIT = (Class.PROGRESS, Class.FACTS, Class.INCIDENTS, Class.RESULTS)
BY_DISK = (Class.PROGRESS, Class.FACTS, Class.INCIDENTS)
"""What goes, in this order, for the journal's own limit; and for a disk that somebody else may have filled."""

_DROPPED = {
    Class.PROGRESS: Dropped.PROGRESS,
    Class.FACTS: Dropped.FACTS,
    Class.INCIDENTS: Dropped.INCIDENTS,
    Class.RESULTS: Dropped.RESULTS,
}


def class_of(event: Event) -> Class:
    """Return what `event` is worth. Whatever says what became of a task is a result."""
    match event:
        case TaskProgress() | TaskStarted():
            return Class.PROGRESS
        case FactObserved():
            return Class.FACTS
        case IncidentRaised() | IncidentCleared() | ScheduleSkipped():
            return Class.INCIDENTS
        case Gap() | WorkerStarted():
            return Class.MARKS
        case _:
            return Class.RESULTS


def excess(size: int, limit: int) -> int:
    """Return how many bytes must go from a journal of `size` bytes: none up to its limit, above it a slice more."""
    if size <= limit:
        return 0
    return size - limit + min(int(limit * SLICE_SHARE), MAX_SLICE_BYTES)


@dataclass(frozen=True, slots=True)
class Loss:
    """Events of one class that are gone: how many, and from when to when."""

    count: int
    first_at: int
    last_at: int

    def and_also(self, other: Loss) -> Loss:
        """Return both losses as one."""
        return Loss(self.count + other.count, min(self.first_at, other.first_at), max(self.last_at, other.last_at))

    def gap(self, kind: Class, reason: str, at: int) -> Gap:
        """Return the event that tells it."""
        return Gap(
            at=at,
            dropped=_DROPPED[kind],
            count=self.count,
            first_at=self.first_at,
            last_at=self.last_at,
            reason=reason,
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows that go together, by their numbers."""

    numbers: tuple[int, ...]
    size: int
    loss: Loss


def cut(rows: Iterable[tuple[int, int, int]], wanted: int, most: int = MAX_SLICE_ROWS) -> Slice | None:
    """Take rows (number, time, size), oldest first, until `wanted` bytes are found, and at `most` so many rows.

    Returns:
        None where there is no row.

    """
    numbers: list[int] = []
    size = first_at = last_at = 0
    for number, at, length in rows:
        first_at, last_at = (min(first_at, at), max(last_at, at)) if numbers else (at, at)
        numbers.append(number)
        size += length
        if size >= wanted or len(numbers) >= most:
            break
    return Slice(tuple(numbers), size, Loss(len(numbers), first_at, last_at)) if numbers else None


@dataclass(frozen=True, slots=True)
class Losses:
    """What could not be stored, by class, until there is room to tell it."""

    by_class: tuple[tuple[Class, Loss], ...] = ()

    def and_also(self, other: Losses) -> Losses:
        """Return both as one."""
        merged = dict(self.by_class)
        for kind, loss in other.by_class:
            merged[kind] = merged[kind].and_also(loss) if kind in merged else loss
        return replace(self, by_class=tuple(sorted(merged.items())))

    def gaps(self, reason: str, at: int) -> list[Gap]:
        """Return the events that tell it, lowest class first."""
        return [loss.gap(kind, reason, at) for kind, loss in self.by_class]

    def __bool__(self) -> bool:
        return bool(self.by_class)


def losses_of(events: Iterable[Event]) -> Losses:
    """Return the loss of events that were never stored. A mark that is lost tells nothing that is missed."""
    found = Losses()
    for event in events:
        kind = class_of(event)
        if kind in _DROPPED:
            found = found.and_also(Losses(((kind, Loss(1, event.at, event.at)),)))
    return found
