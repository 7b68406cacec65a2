"""What people may do to a task: cancel it, try it again, say what became of it.

Each takes a case and what was said, and returns the case as it is then, with the `Drop`s that must be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, assert_never

from hub.errors import NotPossible
from hub.rules.ends import REACHED_AN_END
from hub.rules.life import CANCELLING, cancelled, last_number, unknown
from hub.rules.task import HELD, Case, Drop, TaskState

if TYPE_CHECKING:
    from pydantic import JsonValue

    from hub.rules.life import Verdict
    from hub.rules.task import Task


class Verb(StrEnum):
    """What can be done."""

    CANCEL = "cancel"
    RETRY = "retry"
    RESOLVE = "resolve"


POSSIBLE_IN = {
    Verb.CANCEL: frozenset({TaskState.PENDING, *HELD, TaskState.UNKNOWN}),
    Verb.RETRY: frozenset(
        {TaskState.UNKNOWN, TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED, TaskState.EXPIRED}
    ),
    Verb.RESOLVE: frozenset({TaskState.UNKNOWN}),
}


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody needs it any more."""

    reason: str | None = None
    verb: ClassVar[Verb] = Verb.CANCEL

    def said(self) -> dict[str, object]:
        """Return what was said to it."""
        return {"reason": self.reason}


@dataclass(frozen=True, slots=True)
class Retry:
    """Do it once more, whatever came of it."""

    reason: str | None = None
    verb: ClassVar[Verb] = Verb.RETRY

    def said(self) -> dict[str, object]:
        """Return what was said to it."""
        return {"reason": self.reason}


@dataclass(frozen=True, slots=True)
class Resolve:
    """Somebody looked, and says what became of it: `succeeded`, `failed` or `cancelled`."""

    outcome: TaskState
    result: JsonValue = None
    error: str | None = None
    note: str | None = None
    verb: ClassVar[Verb] = Verb.RESOLVE

    def said(self) -> dict[str, object]:
        """Return what was said to it; the result stands in the task."""
        return {"outcome": self.outcome, "error": self.error, "note": self.note}


Action = Cancel | Retry | Resolve


def possible(state: TaskState) -> tuple[Verb, ...]:
    """Return what can be done to a task in `state`."""
    return tuple(verb for verb, states in POSSIBLE_IN.items() if state in states)


def act(case: Case, action: Action, now: int) -> Verdict:
    """Do to a task what somebody asked for. Raises `NotPossible` where its state does not allow that."""
    check(case.task, action)
    match action:
        case Cancel():
            return _cancel(case, action, now)
        case Retry():
            return _retry(case, action, now), ()
        case Resolve():
            return _resolve(case, action, now), ()
    assert_never(action)


def check(task: Task, action: Action) -> None:
    """Raise `NotPossible` where the state of `task` does not allow what is asked."""
    if task.state not in POSSIBLE_IN[action.verb]:
        raise NotPossible(action.verb, task.id, task.state, possible(task.state), sorted(POSSIBLE_IN[action.verb]))


def _cancel(case: Case, action: Cancel, now: int) -> Verdict:
    """Cancel at once what nobody has; ask the worker to stop what it has, and wait for its word."""
    task = case.task
    asked = task._replace(cancel_ms=task.cancel_ms or now)
    said = f": {action.reason}" if action.reason else ""
    if task.state is TaskState.PENDING:
        if task.offered_to and not task.idempotent:
            who = ", ".join(task.offered_to)
            return Case(unknown(asked, f"it was published to workers, and {who} may have it"), case.attempts), ()
        return Case(cancelled(asked, f"cancelled{said}", now), case.attempts), ()
    if task.state is TaskState.UNKNOWN:
        asked = asked if task.cancel_ms else unknown(asked, task.reason or "")
    else:
        asked = asked._replace(reason=f"{CANCELLING}{said}")
    return Case(asked, case.attempts), _drop_of_holder(case, f"{CANCELLING}{said}")


def _retry(case: Case, action: Retry, now: int) -> Case:
    """Let a task be placed anew, with as much time as it had. How its attempts ended counts no more."""
    task = case.task
    attempts = {
        key: one._replace(superseded=False) if one.superseded and one.state in REACHED_AN_END else one
        for key, one in case.attempts.items()
    }
    again = task._replace(
        state=TaskState.PENDING,
        reason=f"to be tried again: {action.reason}" if action.reason else "to be tried again",
        attempt=last_number(case),
        worker=None,
        result=None,
        error=None,
        started_ms=None,
        finished_ms=None,
        not_before_ms=None,
        offered_to=None,
        cancel_ms=None,
        expires_ms=None if task.expires_ms is None else now + task.expires_ms - task.created_ms,
    )
    return Case(again, attempts)


def _resolve(case: Case, action: Resolve, now: int) -> Case:
    ended = case.task._replace(
        state=action.outcome,
        reason=None,
        worker=None,
        result=action.result,
        error=action.error,
        finished_ms=now,
    )
    return Case(ended, case.attempts)


def _drop_of_holder(case: Case, why: str) -> tuple[Drop, ...]:
    task = case.task
    return (Drop(task.worker, task.id, task.attempt, why),) if task.worker else ()
