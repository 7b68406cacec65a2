"""The life of a task (DESIGN §4): what each report and each deadline makes of it.

A `Case` is a task with all its attempts. Every function takes a case and what happened, and returns the case as it is
then, with the `Drop`s that must be sent: attempts that a worker holds and should not. The number of an attempt is the
fencing token: only the current attempt moves the task, except that a success always counts.

A task that somebody asked to cancel (`Task.cancel_ms`) is never placed again: where it would be, it is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.messages import WORTH_ANOTHER_TRY, Outcome
from hub.rules.ends import REACHED_AN_END, settle_ends
from hub.rules.task import ENDED, HELD, Attempt, AttemptState, Case, Drop, Task, TaskState

if TYPE_CHECKING:
    from broker.messages import (
        TaskAccepted,
        TaskDeclined,
        TaskEvent,
        TaskFinished,
        TaskProgress,
        TaskStarted,
    )

_LIVE = frozenset({AttemptState.ASSIGNED, AttemptState.ACCEPTED, AttemptState.RUNNING})
_ENDED = REACHED_AN_END | {AttemptState.REFUSED}
_OVER = _ENDED | {AttemptState.DECLINED}
"""Of a lost attempt we do not know that it is over: its worker may come back with it."""

CANCELLING = "cancelling"
TO_BE_CANCELLED = "to be cancelled"
NOT_IN_TIME = "not started in time"
NOT_TAKEN = "another attempt was faster"

Verdict = tuple[Case, tuple[Drop, ...]]
Rule = Callable[[Case], Case]
"""What a deadline makes of a case."""


def assign(case: Case, worker: str, now: int) -> Case:
    """Give the task to `worker`, as the next attempt."""
    number = last_number(case) + 1
    task = case.task._replace(
        state=TaskState.ASSIGNED,
        attempt=number,
        worker=worker,
        reason=None,
        not_before_ms=None,
        offered_to=None,
    )
    return _with(Case(task, case.attempts), Attempt(number, worker, AttemptState.ASSIGNED, assigned_ms=now))


def last_number(case: Case) -> int:
    """Return the highest number that an attempt has, or that one may have which we have not heard of."""
    return max([case.task.attempt, *(number for number, _ in case.attempts)])


def refuse(case: Case, number: int, worker: str, why: str) -> Case:
    """Keep an attempt out of the task's life: it is of another task that took this one's id."""
    if (number, worker) in case.attempts:
        return case
    return _with(case, Attempt(number, worker, AttemptState.REFUSED, error=why, superseded=True))


def is_refused(case: Case, event: TaskEvent, worker: str) -> bool:
    """Tell whether an event is of an attempt that was refused."""
    attempt = case.attempts.get((event.attempt, worker))
    return attempt is not None and attempt.state is AttemptState.REFUSED


def is_anothers(case: Case, worker: str, site: str) -> bool:
    """Tell whether a task is none that this worker could hold: it was never given it, and is not whom it is for.

    Ids are no secret: a worker that has the child `t:w1` of a task for all knows how that of `w2` is called. One that
    has moved may still tell of what it was given where it was.
    """
    if case.task.site in (None, site) and case.task.pinned in (None, worker):
        return False
    return all(one.worker != worker or one.state is AttemptState.REFUSED for one in case.attempts.values())


def is_live(attempt: Attempt, *, or_lost: bool = False) -> bool:
    """Tell whether an attempt may be going on, as far as the hub knows."""
    return attempt.state in _LIVE or (or_lost and attempt.state is AttemptState.LOST)


def on_accepted(case: Case, event: TaskAccepted, worker: str) -> Verdict:
    """`worker` says that it holds an attempt.

    It may have declined the attempt before, and taken it when the assignment came a second time.
    """
    attempt = _find(case, event, worker)
    if attempt.state in _ENDED or (attempt.state is AttemptState.DECLINED and not _may_hold(case.task, event, worker)):
        return case, (_drop(case, attempt, "the attempt has ended"),)
    state = attempt.state if attempt.state in _LIVE - {AttemptState.ASSIGNED} else AttemptState.ACCEPTED
    return _hold(case, attempt._replace(state=state, accepted_ms=event.at), event)


def on_started(case: Case, event: TaskStarted, worker: str) -> Verdict:
    """`worker` says that an attempt runs, so it holds it as well."""
    attempt = _find(case, event, worker)
    if attempt.state in _OVER:
        return case, ()
    held, drops = _hold(case, attempt._replace(state=AttemptState.RUNNING, started_ms=event.at), event)
    task = held.task._replace(started_ms=event.at) if _is_current(held.task, event, worker) else held.task
    return Case(task, held.attempts), drops


def on_progress(case: Case, event: TaskProgress, worker: str) -> Verdict:
    """`worker` says how far an attempt is."""
    attempt = _find(case, event, worker)
    if attempt.state in _OVER:
        return case, ()
    return _with(case, attempt._replace(progress=event.fraction, progress_message=event.message)), ()


def on_declined(case: Case, event: TaskDeclined, worker: str) -> Verdict:
    """`worker` cannot run an attempt: the task is placed elsewhere."""
    attempt = _find(case, event, worker)
    if attempt.state in _OVER:
        return case, ()
    attempt = attempt._replace(state=AttemptState.DECLINED, finished_ms=event.at, error=event.reason)
    if not _may_hold(case.task, event, worker):
        return _with(case, attempt), ()
    drops = drops_of_others(case, attempt, f"{worker} has declined a later attempt")
    task = _given_back(case.task, f"{worker} declined it: {event.reason}", event.at)._replace(attempt=event.attempt)
    return _put_untaken_aside(_with(Case(task, case.attempts), attempt)), drops


def on_finished(case: Case, event: TaskFinished, worker: str, now: int) -> Verdict:
    """An attempt ended: so does the task, or it is tried again, or the end is kept beside a better one.

    An attempt that was told to stop moves the task only by a success: how it was stopped says nothing about the task.
    """
    attempt = _find(case, event, worker)
    if attempt.state in REACHED_AN_END:
        return case, ()
    told_to_stop = attempt.superseded or attempt.state in _OVER
    attempt = attempt._replace(
        state=AttemptState(event.outcome.value),
        finished_ms=event.at,
        result=event.result,
        error=event.error,
        superseded=False,
    )
    case = _with(case, attempt)
    if case.task.state in ENDED:
        return settle_ends(case, attempt), ()
    if event.outcome is Outcome.SUCCEEDED or (_may_hold(case.task, event, worker) and not told_to_stop):
        drops = drops_of_others(case, attempt, f"{worker} has done it")
        moved = Case(_retry(case, event, now), case.attempts) if _tries_again(case, event) else None
        return _put_untaken_aside(moved or settle_ends(case, attempt)), drops
    return _with(case, attempt._replace(superseded=True)), ()


def on_lost(case: Case, number: int, why: str, now: int) -> Case:
    """The holder of attempt `number` is gone for good, as far as we know: place the task anew, or say `unknown`."""
    task = case.task
    if task.state not in HELD or task.attempt != number or task.worker is None:
        return case
    attempt = case.attempts[number, task.worker]._replace(state=AttemptState.LOST, error=why)
    task = _given_back(task, why, now) if task.idempotent else unknown(task, why)
    return _with(Case(task, case.attempts), attempt)


def on_unaccepted(case: Case, number: int, why: str, now: int) -> Case:
    """A worker that is there did not accept attempt `number` in time: give up on it, unless it may not run twice.

    Then it may be running already, and only the same attempt again is safe. Where the acceptance was committed just
    now, nothing is given up.
    """
    task = case.task
    if task.state is not TaskState.ASSIGNED or task.attempt != number or task.worker is None:
        return case
    if not task.idempotent and task.cancel_ms is None:
        return case
    attempt = case.attempts[number, task.worker]._replace(state=AttemptState.LOST, error=why)
    return _with(Case(_given_back(task, why, now), case.attempts), attempt)


def on_expired(case: Case, now: int, why: str | None) -> Case:
    """Nobody began the task in the time that it was worth doing in; `why` it waited is kept."""
    if case.task.state is not TaskState.PENDING:
        return case
    if case.task.offered_to and not case.task.idempotent:
        return Case(unknown(case.task, why or NOT_IN_TIME), case.attempts)
    error = f"{NOT_IN_TIME}: {why}" if why else NOT_IN_TIME
    return Case(case.task._replace(state=TaskState.EXPIRED, error=error, finished_ms=now, reason=None), case.attempts)


def _find(case: Case, event: TaskEvent, worker: str) -> Attempt:
    return case.attempts.get((event.attempt, worker)) or Attempt(event.attempt, worker, AttemptState.ACCEPTED)


def _is_current(task: Task, event: TaskEvent, worker: str) -> bool:
    return task.attempt == event.attempt and task.worker == worker


def _may_hold(task: Task, event: TaskEvent, worker: str) -> bool:
    """Whether this report moves the task: it is of the current attempt, or of one while nobody else has the task."""
    if task.state in ENDED:
        return False
    if task.state in HELD:
        return _is_current(task, event, worker) or event.attempt > task.attempt
    return event.attempt >= task.attempt


def _hold(case: Case, attempt: Attempt, event: TaskEvent) -> Verdict:
    """Put the task in the hands of `attempt`, or tell its worker that the task is not its own any more."""
    task = case.task
    if attempt.superseded or not _may_hold(task, event, attempt.worker):
        why = "the task has ended" if task.state in ENDED else "another worker holds the task"
        return _with(case, attempt._replace(superseded=True)), (_drop(case, attempt, why),)
    held = in_hands_of(case, attempt)
    if task.state is TaskState.RUNNING and _is_current(task, event, attempt.worker):
        return held, ()
    stopping = (_drop(case, attempt, CANCELLING),) if task.cancel_ms is not None else ()
    return held, (*stopping, *drops_of_others(case, attempt, f"{attempt.worker} has it"))


def in_hands_of(case: Case, attempt: Attempt) -> Case:
    """Return the case with the task running as `attempt`; an older one that was current is superseded."""
    task = case.task
    before = case.attempts.get((task.attempt, task.worker or ""))
    if before and (before.number, before.worker) != (attempt.number, attempt.worker) and before.state in _LIVE:
        case = _with(case, _put_aside(before))
    task = task._replace(
        state=TaskState.RUNNING,
        worker=attempt.worker,
        attempt=attempt.number,
        reason=None if task.cancel_ms is None else (task.reason or CANCELLING),
        started_ms=attempt.started_ms,
        not_before_ms=None,
        offered_to=None,
    )
    return _with(Case(task, case.attempts), attempt._replace(superseded=False))


def _put_untaken_aside(case: Case) -> Case:
    """Return the case with no attempt that looks as if its worker might still take it."""
    untaken = [one for one in case.attempts.values() if one.state is AttemptState.ASSIGNED]
    for attempt in untaken:
        case = _with(case, _put_aside(attempt))
    return case


def _put_aside(attempt: Attempt) -> Attempt:
    """Return an attempt whose place another has taken. If nobody had taken this one, nobody may ever tell of it."""
    if attempt.state is AttemptState.ASSIGNED:
        return attempt._replace(state=AttemptState.LOST, error=NOT_TAKEN, superseded=True)
    return attempt._replace(superseded=True)


def _drop(case: Case, attempt: Attempt, why: str) -> Drop:
    return Drop(attempt.worker, case.task.id, attempt.number, why)


def _tries_again(case: Case, event: TaskFinished) -> bool:
    task = case.task
    return event.outcome in WORTH_ANOTHER_TRY and task.idempotent and _tries(case) < task.max_attempts


def _tries(case: Case) -> int:
    """Count the attempts that ended by themselves; one that was lost or declined is not held against the task."""
    return sum(attempt.state in REACHED_AN_END for attempt in case.attempts.values())


def _retry(case: Case, event: TaskFinished, now: int) -> Task:
    tries = _tries(case)
    wait_ms = int(case.task.backoff_seconds * 1000 * 2 ** (tries - 1))
    said = event.error or event.outcome.value
    task = _given_back(case.task, f"try {tries} of {case.task.max_attempts} ended: {said}", now)
    waits = task.state is TaskState.PENDING
    return task._replace(attempt=event.attempt, not_before_ms=now + wait_ms if waits else None)


def _given_back(task: Task, why: str, now: int) -> Task:
    """Let the task be placed anew, unless somebody asked to cancel it."""
    return _pending(task, why) if task.cancel_ms is None else cancelled(task, f"cancelled: {why}", now)


def _pending(task: Task, reason: str) -> Task:
    return task._replace(state=TaskState.PENDING, worker=None, reason=reason, started_ms=None, offered_to=None)


def cancelled(task: Task, error: str, now: int) -> Task:
    """Return a task as the hub cancels it, which nobody has."""
    return task._replace(
        state=TaskState.CANCELLED,
        worker=None,
        reason=None,
        error=error,
        finished_ms=now,
        not_before_ms=None,
        offered_to=None,
    )


def unknown(task: Task, why: str) -> Task:
    """Return a task of which nobody can say whether it has run."""
    reason = why if task.cancel_ms is None else f"{why}; {TO_BE_CANCELLED}"
    return task._replace(state=TaskState.UNKNOWN, reason=reason, not_before_ms=None, offered_to=None)


def drops_of_others(case: Case, holder: Attempt, why: str) -> tuple[Drop, ...]:
    """Return the drops of all other attempts that may still be going on, and have not been told to stop."""
    return tuple(
        _drop(case, other, why)
        for key, other in case.attempts.items()
        if key != (holder.number, holder.worker) and other.state in _LIVE and not other.superseded
    )


def _with(case: Case, attempt: Attempt) -> Case:
    return Case(case.task, {**case.attempts, (attempt.number, attempt.worker): attempt})
