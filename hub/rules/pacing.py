"""How much history which worker may send now, so that a thousand that come back do not drown the hub (DESIGN §5).

Credit is counted in batches. A worker whose history is longer than one batch shares a budget of the whole hub with the
others of its kind, in turn; all others, and it itself when its history is committed, send as much as they like. Pure
bookkeeping: what it returns must be sent, and the time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_EVENTS = 500
"""A history up to here is taken as it comes."""

SHARE_BATCHES = 4
"""What one worker may have outstanding: as many as its window holds, so that the way to it costs nothing."""

BUDGET_BATCHES = 64
"""What all of them may have outstanding: about a second of work, and 8 MB at the broker."""

PATIENCE_MS = 15_000
"""Credit that brought no batch for so long is taken to be lost with its message, or with its worker."""


class Grant(NamedTuple):
    """Credit for a worker; None is as much as it likes."""

    worker: str
    batches: int | None


@dataclass(slots=True)
class _History:
    """What a worker has to send up to event `newest`, which was the last when it said hello."""

    stream: str
    newest: int
    outstanding: int = 0
    moved_ms: int = 0


class Pacing:
    """Who has how much credit."""

    def __init__(self, *, budget: int = BUDGET_BATCHES, share: int = SHARE_BATCHES) -> None:
        self._budget = budget
        self._share = share
        self._histories: OrderedDict[str, _History] = OrderedDict()  # who is next stands first
        self._away: dict[str, _History] = {}
        self.outstanding = 0

    def begin(self, worker: str, stream: str, newest: int, through: int, now: int) -> int | None:
        """Return the credit of a hello: the journal's `newest` event, and how far it is committed.

        What the worker had before is forgotten, by the worker too.
        """
        self._forget(worker)
        if newest - through <= BATCH_EVENTS:
            return None
        history = self._histories[worker] = _History(stream, newest, moved_ms=now)
        return self._take(history, self._share, now)

    def committed(self, worker: str, stream: str, through: int, now: int) -> list[Grant]:
        """Take note of a batch that moved the mark of a stream to `through`; return what to send for it."""
        history = self._histories.get(worker)
        if history is None or history.stream != stream:
            return []
        if through >= history.newest:
            self._forget(worker)
            return [Grant(worker, None), *self._hand_out(now)]
        history.moved_ms = now
        self._histories.move_to_end(worker)
        self._give_back(history, 1)
        return [*self._hand_out(now)]

    def gone(self, worker: str, now: int) -> list[Grant]:
        """Take back what a worker had that is gone; return what to send to others for it."""
        history = self._histories.get(worker)
        if history:
            self._forget(worker)
            self._away[worker] = history
        return [*self._hand_out(now)]

    def back(self, worker: str, now: int) -> list[Grant]:
        """Let a worker go on that was gone for a moment, and says no hello for it; return what to send."""
        history = self._away.pop(worker, None)
        if history:
            history.outstanding = 0
            self._histories[worker] = history
        return [*self._hand_out(now)]

    def tick(self, now: int) -> list[Grant]:
        """Take back what brought nothing for too long, and return what to send for it."""
        for history in self._histories.values():
            if history.outstanding and now - history.moved_ms > PATIENCE_MS:
                self._give_back(history, history.outstanding)
        return [*self._hand_out(now)]

    def _hand_out(self, now: int) -> Iterator[Grant]:
        """Share what is left of the budget among those that wait, in turn."""
        hungry = [name for name, history in self._histories.items() if history.outstanding < self._share]
        for name in hungry:
            if self.outstanding >= self._budget:
                return
            history = self._histories[name]
            self._histories.move_to_end(name)
            yield Grant(name, self._take(history, self._share - history.outstanding, now))

    def _take(self, history: _History, wanted: int, now: int) -> int:
        taken = max(0, min(wanted, self._budget - self.outstanding))
        if taken and not history.outstanding:
            history.moved_ms = now
        history.outstanding += taken
        self.outstanding += taken
        return taken

    def _give_back(self, history: _History, batches: int) -> None:
        given = min(batches, history.outstanding)
        history.outstanding -= given
        self.outstanding -= given

    def _forget(self, worker: str) -> None:
        self._away.pop(worker, None)
        history = self._histories.pop(worker, None)
        if history:
            self.outstanding -= history.outstanding
