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
├── BrokerSilent          the broker's plugin for accounts cannot be reached, or does not answer
├── EnrolmentRefused      a token that is not traded for an account
├── NotYours              a worker speaks for another one, or for another site
├── DatabaseInUse         another hub serves the database, or it is just being restored
├── NoLock                a database beside which there can be no lock
├── BackupFailed          a backup that was not made, and is not there
├── RestoreRefused        a restore that did not happen, and has changed nothing
└── LedgerClosed          the one writer has stopped; the work was not committed, and can be tried again
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import HoldfastError, InvalidInput
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hub.rules.access import Account
    from hub.rules.enrolment import Refusal


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


class BrokerSilent(HoldfastError):
    """The broker's plugin for accounts does not do what it is told; the text says why."""

    retryable = True


class EnrolmentRefused(HoldfastError):
    """A token is not traded for an account; `refusal` says why not."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class NotYours(HoldfastError):
    """Somebody with an account speaks for a worker or a site that is not the account's."""

    def __init__(self, account: Account, worker: str, site: str) -> None:
        own = f"{account.name} at {account.site}"
        super().__init__(f"this is the account of {own}, and the exchange is of {worker} at {site}")
        self.account = account
        self.worker = worker
        self.site = site


class AccountGone(HoldfastError):
    """An account was revoked, or given another password, while who has it was still speaking."""

    def __init__(self, account: Account) -> None:
        super().__init__(f"the account {account.name} is not what it was when this began: it was revoked or renewed")
        self.account = account


class DatabaseInUse(HoldfastError):
    """Somebody else has the database; `holder` says who, and since when."""

    retryable = True

    def __init__(self, database: str, holder: str) -> None:
        super().__init__(f"{database} is in use by {holder}")
        self.database = database
        self.holder = holder


class NoLock(HoldfastError):
    """The lock of a database cannot be made; the text says why."""


class BackupFailed(HoldfastError):
    """There is no backup; the text says why."""


class RestoreRefused(HoldfastError):
    """Nothing was restored; the text says why, and what to do."""


class LedgerClosed(HoldfastError):
    """The ledger has stopped."""

    retryable = True
