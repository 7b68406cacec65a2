"""A thread that commits pieces of work in the order in which they were asked for: the ledger's, and the journal's.

Each piece has three moments, and a crash may come between any two: it was asked for, it is committed, and who asked
goes on. Who asks is a coroutine that awaits nothing but commits, so no event loop is needed, and whoever drives the
model says when each moment comes. A crash makes a new writer: what was asked for, and what was to follow, is gone.
"""

from __future__ import annotations

import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    Work = Coroutine[Any, Any, None]

Result = TypeVar("Result")


class Commit(Generic[Result]):
    """What is awaited for the result of a piece of work, once that is committed."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work

    def __await__(self) -> Generator[Callable[[], Result], Result, Result]:
        return (yield self._work)


class Writer:
    """Work that waits for its commit, and results that wait for who asked.

    Args:
        refusals: Errors of work that are an answer to who asked; any other is one of the model.

    """

    def __init__(self, *refusals: type[Exception]) -> None:
        self._refusals = refusals
        self._asked: deque[tuple[Callable[[], Any], Work]] = deque()
        self._committed: deque[tuple[Callable[[], Any], Work]] = deque()

    @property
    def can_commit(self) -> bool:
        return bool(self._asked)

    @property
    def can_go_on(self) -> bool:
        return bool(self._committed)

    @property
    def idle(self) -> bool:
        return not self._asked and not self._committed

    def begin(self, who: Work) -> None:
        """Run a coroutine up to its first commit."""
        self._run(partial(who.send, None), who)

    def commit(self) -> None:
        """Commit the next piece of work."""
        work, who = self._asked.popleft()
        try:
            answer = partial(who.send, work())
        except self._refusals as error:
            answer = partial(who.throw, error)
        self._committed.append((answer, who))

    def go_on(self) -> None:
        """Let the next who asked go on, up to its next commit."""
        self._run(*self._committed.popleft())

    def _run(self, go_on: Callable[[], Any], who: Work) -> None:
        with contextlib.suppress(StopIteration):  # it has come to its end
            self._asked.append((go_on(), who))
