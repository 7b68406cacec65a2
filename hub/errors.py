"""What can go wrong in the hub.

HoldfastError
├── NotFound              no such task or worker
├── TooLarge              a body that is longer than it may be
├── ClashingId            the id is known, with another task behind it
└── LedgerClosed          the one writer has stopped; the work was not committed, and can be tried again
"""

from __future__ import annotations

from broker.errors import HoldfastError, InvalidInput
from broker.problems import Problem


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


class TooLarge(InvalidInput):
    """A body that is longer than it may be."""

    def __init__(self, limit: int) -> None:
        super().__init__([Problem("body", f"more than {limit} bytes long", f"at most {limit} bytes")])


class LedgerClosed(HoldfastError):
    """The ledger has stopped."""

    retryable = True
