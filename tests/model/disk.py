"""A worker's disk: journal, inbox and the memory of ended ids, as the agent's database keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from broker.messages import Gap
from edge_agent.rules.attempts import Known
from edge_agent.rules.eviction import class_of, cut

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.messages import Event
    from edge_agent.rules.attempts import Held, Ref
    from edge_agent.rules.eviction import Class, Loss

FULL = "the journal was full"


@dataclass(slots=True)
class Disk:
    """All that outlives a crash of the worker; `is_new` until it has been at the broker."""

    stream: str
    is_new: bool = True
    settled: int = 0
    newest: int = 0
    rows: dict[int, Event] = field(default_factory=dict)
    inbox: dict[Ref, Held] = field(default_factory=dict)
    ended: dict[str, Known] = field(default_factory=dict)

    def copy(self) -> Disk:
        return replace(self, rows=dict(self.rows), inbox=dict(self.inbox), ended=dict(self.ended))

    def append(self, events: Iterable[Event]) -> None:
        for event in events:
            self.newest += 1
            self.rows[self.newest] = event

    def settle(self, through: int) -> None:
        self.rows = {number: event for number, event in self.rows.items() if number > through}
        self.settled = max(self.settled, through)

    def known(self, tasks: Iterable[str]) -> dict[str, Known]:
        """Return what is remembered of each of `tasks`: the highest attempt, held or ended."""
        found = {task: self.ended[task] for task in tasks if task in self.ended}
        for held in self.inbox.values():
            task = held.ref.task
            if task in tasks and (task not in found or held.ref.attempt > found[task].attempt):
                found[task] = Known(held.ref.attempt, held.digest)
        return found

    def end(self, held: Held) -> None:
        """Let an attempt go, and remember its id."""
        self.inbox.pop(held.ref, None)
        before = self.ended.get(held.ref.task)
        if before is None or held.ref.attempt >= before.attempt:
            self.ended[held.ref.task] = Known(held.ref.attempt, held.digest)


@dataclass(slots=True)
class Gaps:
    """The last gap of each class, while it can still grow. The memory of it does not outlive a crash."""

    leased: int = 0
    last: dict[Class, tuple[int, Loss]] = field(default_factory=dict)

    def evict(self, disk: Disk, kind: Class, at: int) -> list[tuple[int, Event]]:
        """Drop the older half of a class, with a gap in the same transaction; return what went."""
        rows = [(number, event.at, 1) for number, event in disk.rows.items() if class_of(event) is kind]
        gone = cut(rows, max(1, len(rows) // 2))
        if gone is None:
            return []
        dropped = [(number, disk.rows.pop(number)) for number in gone.numbers]
        number, before = self.last.get(kind, (0, None))
        loss = gone.loss
        if before is not None and number > self.leased and isinstance(disk.rows.get(number), Gap):
            # It takes the place of the last of its kind that was not leased.
            dropped.append((number, disk.rows.pop(number)))
            loss = loss.and_also(before)
        disk.append([loss.gap(kind, FULL, at)])
        self.last[kind] = disk.newest, loss
        return dropped
