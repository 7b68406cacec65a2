"""A thread that commits pieces of work in the order in which they were asked for: the ledger's, and the journal's.

Each piece has three moments, and a crash may come between any two: it was asked for, it is committed, and who asked
goes on. A crash makes a new writer, so what was asked for and what was to follow are gone, and what was committed is not.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], Any]
    Then = Callable[[Any], None]


def _nothing(_: object) -> None:
    pass


class Writer:
    """Work that waits for its commit, and results that wait for who asked."""

    def __init__(self) -> None:
        self._asked: deque[tuple[Work, Then]] = deque()
        self._committed: deque[tuple[Then, Any]] = deque()

    @property
    def can_commit(self) -> bool:
        return bool(self._asked)

    @property
    def can_go_on(self) -> bool:
        return bool(self._committed)

    @property
    def idle(self) -> bool:
        return not self._asked and not self._committed

    def ask(self, work: Work, then: Then = _nothing) -> None:
        self._asked.append((work, then))

    def commit(self) -> None:
        work, then = self._asked.popleft()
        self._committed.append((then, work()))

    def go_on(self) -> None:
        then, result = self._committed.popleft()
        then(result)
