"""A lane: tasks that ask for the same, in the order in which they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.rules.placement.standings import Standings

if TYPE_CHECKING:
    from hub.rules.placement.limits import Cap
    from hub.rules.placement.place import Shape
    from hub.rules.placement.pools import Pool

Entry = tuple[int, int]
"""A task in its lane: its rank (`broker.priority`), and in what order it came."""


class Lane:
    """Tasks of one shape that are kept from the same workers.

    Attributes:
        kept_from: Workers that the tasks must not go to, because they declined them.
        caps: The limits that concern them.
        pool: The places that can run them.
        parked: Whether it waits until a place has room that its tasks are not kept from.

    """

    pool: Pool

    def __init__(self, shape: Shape, kept_from: frozenset[str], caps: tuple[Cap, ...]) -> None:
        self.shape = shape
        self.kept_from = kept_from
        self.caps = caps
        self.parked = False
        self._entries: dict[str, Entry] = {}
        self._queue: Standings[str, Entry] = Standings(self._entries.get)

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True  # a lane without tasks is one all the same

    @property
    def first(self) -> str | None:
        """The task that goes first."""
        return self._queue.first()

    @property
    def head(self) -> Entry | None:
        """The entry of the task that goes first; None where none can."""
        task = None if self.parked else self._queue.first()
        return None if task is None else self._entries[task]

    def put(self, task: str, entry: Entry) -> bool:
        """Put a task in; tell whether the lane may have another head for it."""
        self._entries[task] = entry
        return self._queue.tell(task)

    def take(self, task: str) -> Entry:
        """Take a task out."""
        self._queue.forget(task)
        return self._entries.pop(task)
