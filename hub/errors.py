"""What can go wrong in the hub.

HoldfastError
├── NotFound              no such task or worker
├── TooLarge              a body that is longer than it may be
├── ClashingId            the id is known, with another task behind it
├── NotPossible           a task's state does not allow what was asked of it
├── UnknownLink           a link by HTTP that has ended, or that an earlier hub knew
└── LedgerClosed          the one writer has stopped; the work was not committed, and can be tried again
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import HoldfastError, InvalidInput
from broker.problems import Problem

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


class TooLarge(InvalidInput):
    """A body that is longer than it may be."""

    def __init__(self, limit: int) -> None:
        super().__init__([Problem("body", f"more than {limit} bytes long", f"at most {limit} bytes")])


class UnknownLink(HoldfastError):
    """There is no such link by HTTP: the worker begins another."""

    retryable = True

    def __init__(self, link: str) -> None:
        super().__init__(f"link is {link!r}: it has ended, or is of an earlier hub; begin another")
        self.link = link


class LedgerClosed(HoldfastError):
    """The ledger has stopped."""

    retryable = True
