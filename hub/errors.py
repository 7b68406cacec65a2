"""What can go wrong in the hub.

HoldfastError
├── NotFound              no such task or worker
├── TooLarge              a body that is longer than it may be
├── ClashingId            the id is known, with another task behind it
├── NotPossible           a task's state does not allow what was asked of it
│   └── NotOfParents      it can be asked of a child only
├── LogNotKept            a worker has no log of that attempt
├── LogNotRead            a worker has a log, and its disk does not give it
├── WorkerAway            what is asked for is at a worker that cannot be reached
├── NoAnswer              a worker that is there does not answer
├── UnknownLink           a link by HTTP that has ended, or that an earlier hub knew
└── LedgerClosed          the one writer has stopped; the work was not committed, and can be tried again
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import HoldfastError, InvalidInput
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Sequence


class NotFound(HoldfastError):
    """There is no such thing; `field` and `value` say what was looked for."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(f"{field} is {value!r}: there is none")
        self.field = field
        self.value = value


class ClashingId(HoldfastError):
    """A task of this id exists, and is another one."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"id is {task_id!r}: a task of this id exists, and is another one")
        self.task_id = task_id


class NotPossible(HoldfastError):
    """A task's state does not allow what was asked of it.

    Args:
        verb: What was asked.
        task_id: Of which task.
        state: How it stands.
        possible: What could be asked instead.
        states: In which states `verb` is possible.

    """

    def __init__(self, verb: str, task_id: str, state: str, possible: Sequence[str], states: Sequence[str]) -> None:
        super().__init__(f"task {task_id} is {state}: {verb} is for one that is {' or '.join(states)}")
        self.verb = verb
        self.task_id = task_id
        self.state = state
        self.possible = tuple(possible)
        self.states = tuple(states)

    @property
    def problem(self) -> Problem:
        """What stands in the way."""
        return Problem("state", shown(self.state), " or ".join(self.states))


class NotOfParents(NotPossible):
    """What was asked of a task for each matching worker can only be asked of one of its children."""

    def __init__(self, verb: str, task_id: str, state: str, possible: Sequence[str]) -> None:
        super().__init__(verb, task_id, state, possible, ())
        self.args = (f"task {task_id} is for each matching worker: {verb} one of its children",)

    @property
    def problem(self) -> Problem:
        """What stands in the way."""
        return Problem("target", '"all"', f'"one": {self.verb} a task of GET /api/tasks?parent={self.task_id}')


class TooLarge(InvalidInput):
    """A body that is longer than it may be."""

    def __init__(self, limit: int) -> None:
        super().__init__([Problem("body", f"more than {limit} bytes long", f"at most {limit} bytes")])


class LogNotKept(HoldfastError):
    """There is no such log; the text says why. `may_come`: there may be one soon."""

    def __init__(self, reason: str, *, may_come: bool) -> None:
        super().__init__(reason)
        self.may_come = may_come


class LogNotRead(HoldfastError):
    """A worker cannot read a log that it has."""

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(f"{worker} cannot read the log: {reason}")
        self.worker = worker


class WorkerAway(HoldfastError):
    """A worker cannot be reached; `reason` says since when, or why."""

    retryable = True

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(f"{worker} is {reason}")
        self.worker = worker


class NoAnswer(HoldfastError):
    """A worker has not answered in time."""

    retryable = True

    def __init__(self, worker: str, seconds: float) -> None:
        super().__init__(f"{worker} has not answered within {seconds:g} s")
        self.worker = worker


class UnknownLink(HoldfastError):
    """There is no such link by HTTP: the worker begins another."""

    retryable = True

    def __init__(self, link: str) -> None:
        super().__init__(f"link is {link!r}: it has ended, or is of an earlier hub; begin another")
        self.link = link


class LedgerClosed(HoldfastError):
    """The ledger has stopped."""

    retryable = True
