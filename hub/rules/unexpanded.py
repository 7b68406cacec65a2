"""Which parents wait for a worker that matches, and which of them must be looked at. Pure bookkeeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hub.rules.task import Task


class Unexpanded:
    """The parents that nobody has been given yet."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._unseen: dict[str, Task] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    def add(self, task: Task) -> None:
        """Put a parent in, to be looked at."""
        self._tasks[task.id] = self._unseen[task.id] = task

    def remove(self, task: str) -> None:
        """Forget a parent."""
        self._tasks.pop(task, None)
        self._unseen.pop(task, None)

    def is_unseen(self, task: str) -> bool:
        """Tell whether a parent is still to be looked at."""
        return task in self._unseen

    def take(self, concerns: Callable[[Task], bool] | None = None) -> list[Task]:
        """Return those that must be looked at; they wait until they are removed.

        Each is looked at once, and again when something has changed that `concerns` it.
        """
        unseen, self._unseen = self._unseen, {}
        due = list(unseen.values())
        if concerns:
            due += [task for name, task in self._tasks.items() if name not in unseen and concerns(task)]
        return due
