"""The life of a task (DESIGN §4): what each report and each deadline makes of it.

A `Case` is a task with all its attempts. Every function takes a case and what happened, and returns the case as it is
then, with the `Drop`s that must be sent: attempts that a worker holds and should not. The number of an attempt is the
fencing token: only the current attempt moves the task, except that a success always counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.messages import Outcome
from hub.rules.task import ENDED, HELD, Attempt, AttemptState, Case, Drop, Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.messages import (
        TaskAccepted,
        TaskDeclined,
        TaskEvent,
        TaskFinished,
        TaskProgress,
        TaskStarted,
    )

_TASK_END = {
    Outcome.SUCCEEDED: TaskState.SUCCEEDED,
    Outcome.FAILED: TaskState.FAILED,
    Outcome.TIMED_OUT: TaskState.TIMED_OUT,
    Outcome.CANCELLED: TaskState.CANCELLED,
    Outcome.INTERRUPTED: TaskState.FAILED,
    Outcome.EXPIRED: TaskState.EXPIRED,
}
_WORTH_ANOTHER_TRY = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED})
_LIVE = frozenset({AttemptState.ASSIGNED, AttemptState.ACCEPTED, AttemptState.RUNNING})
_REACHED_AN_END = frozenset(AttemptState(outcome.value) for outcome in Outcome)
_OVER = _REACHED_AN_END | {AttemptState.DECLINED, AttemptState.REFUSED}
"""Of a lost attempt we do not know that it is over: its worker may come back with it."""

Verdict = tuple[Case, tuple[Drop, ...]]
Rule = Callable[[Case], Case]
"""What a deadline makes of a case."""


def assign(case: Case, worker: str, now: int) -> Case:
    """Give the task to `worker`, as the next attempt."""
    number = case.task.attempt + 1
    task = case.task._replace(
        state=TaskState.ASSIGNED,
        attempt=number,
        worker=worker,
        reason=None,
        not_before_ms=None,
        offered_to=None,
    )
    return _with(Case(task, case.attempts), Attempt(number, worker, AttemptState.ASSIGNED, assigned_ms=now))


def refuse(case: Case, number: int, worker: str, why: str) -> Case:
    """Keep an attempt out of the task's life: it is of another task that took this one's id."""
    if (number, worker) in case.attempts:
        return case
    return _with(case, Attempt(number, worker, AttemptState.REFUSED, error=why, superseded=True))


def is_refused(case: Case, event: TaskEvent, worker: str) -> bool:
    """Tell whether an event is of an attempt that was refused."""
    attempt = case.attempts.get((event.attempt, worker))
    return attempt is not None and attempt.state is AttemptState.REFUSED


def on_accepted(case: Case, event: TaskAccepted, worker: str) -> Verdict:
    """`worker` says that it holds an attempt."""
    attempt = _find(case, event, worker)
    if attempt.state in _OVER:
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
    task = case.task
    if _may_hold(task, event, worker):
        task = _pending(task, f"{worker} declined it: {event.reason}")._replace(attempt=event.attempt)
    return _with(Case(task, case.attempts), attempt), ()


def on_finished(case: Case, event: TaskFinished, worker: str, now: int) -> Verdict:
    """An attempt ended: so does the task, or it is tried again, or the end is kept beside a better one."""
    attempt = _find(case, event, worker)
    if attempt.state in _REACHED_AN_END:
        return case, ()
    attempt = attempt._replace(
        state=AttemptState(event.outcome.value),
        finished_ms=event.at,
        result=event.result,
        error=event.error,
        superseded=False,
    )
    case = _with(case, attempt)
    if case.task.state in ENDED:
        return _settle_ends(case, attempt), ()
    if _may_hold(case.task, event, worker):
        if _tries_again(case, event):
            return Case(_retry(case, event, now), case.attempts), ()
        return _settle_ends(case, attempt), ()
    if event.outcome is Outcome.SUCCEEDED:
        return _settle_ends(case, attempt), _drops_of_others(case, attempt)
    return _with(case, attempt._replace(superseded=True)), ()


def on_lost(case: Case, number: int, why: str) -> Case:
    """The holder of attempt `number` is gone for good, as far as we know: place the task anew, or say `unknown`.

    An attempt that nobody accepted was never begun, and one of an idempotent task may be begun again.
    """
    task = case.task
    if task.state not in HELD or task.attempt != number or task.worker is None:
        return case
    attempt = case.attempts[number, task.worker]._replace(state=AttemptState.LOST, error=why)
    task = _pending(task, why) if task.idempotent else task._replace(state=TaskState.UNKNOWN, reason=why)
    return _with(Case(task, case.attempts), attempt)


def on_expired(case: Case, now: int, why: str | None) -> Case:
    """Nobody began the task in the time that it was worth doing in; `why` it waited is kept."""
    if case.task.state is not TaskState.PENDING:
        return case
    if case.task.offered_to and not case.task.idempotent:
        return Case(case.task._replace(state=TaskState.UNKNOWN, reason=why, offered_to=None), case.attempts)
    error = f"not started in time: {why}" if why else "not started in time"
    return Case(case.task._replace(state=TaskState.EXPIRED, error=error, finished_ms=now, reason=None), case.attempts)


def better_end(ends: Iterable[Attempt]) -> Attempt:
    """Return the end that counts: a success before a failure, then the earlier, then the lower attempt."""
    return min(
        ends,
        key=lambda end: (
            end.state is not AttemptState.SUCCEEDED,
            end.finished_ms or 0,
            end.number,
            end.worker,
        ),
    )


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
    if not _may_hold(task, event, attempt.worker):
        why = "the task has ended" if task.state in ENDED else "another worker holds the task"
        return _with(case, attempt._replace(superseded=True)), (_drop(case, attempt, why),)
    task = task._replace(
        state=TaskState.RUNNING,
        worker=attempt.worker,
        attempt=attempt.number,
        reason=None,
        not_before_ms=None,
        offered_to=None,
    )
    return _with(Case(task, case.attempts), attempt._replace(superseded=False)), ()


def _drop(case: Case, attempt: Attempt, why: str) -> Drop:
    return Drop(attempt.worker, case.task.id, attempt.number, why)


def _tries_again(case: Case, event: TaskFinished) -> bool:
    task = case.task
    return event.outcome in _WORTH_ANOTHER_TRY and task.idempotent and _tries(case) < task.max_attempts


def _tries(case: Case) -> int:
    """Count the attempts that ended by themselves; one that was lost or declined is not held against the task."""
    return sum(attempt.state in _REACHED_AN_END for attempt in case.attempts.values())


def _retry(case: Case, event: TaskFinished, now: int) -> Task:
    tries = _tries(case)
    wait_ms = int(case.task.backoff_seconds * 1000 * 2 ** (tries - 1))
    said = event.error or event.outcome.value
    return _pending(case.task, f"try {tries} of {case.task.max_attempts} ended: {said}")._replace(
        attempt=event.attempt,
        not_before_ms=now + wait_ms,
    )


def _pending(task: Task, reason: str) -> Task:
    return task._replace(state=TaskState.PENDING, worker=None, reason=reason, started_ms=None, offered_to=None)


def _end(case: Case, attempt: Attempt) -> Case:
    outcome = Outcome(attempt.state.value)
    task = case.task._replace(
        state=_TASK_END[outcome],
        reason=None,
        worker=attempt.worker,
        attempt=max(case.task.attempt, attempt.number),
        result=attempt.result,
        error=attempt.error,
        started_ms=attempt.started_ms,
        finished_ms=attempt.finished_ms,
        not_before_ms=None,
        offered_to=None,
    )
    return Case(task, case.attempts)


def _settle_ends(case: Case, newcomer: Attempt) -> Case:
    """Let the best end count, whatever the order in which they were told, and keep the others as superseded.

    An end that led to another try is none of the task's, and does not compete.
    """
    counted = _counted_end(case, newcomer)
    ends = [
        one
        for one in case.attempts.values()
        if one is newcomer or one is counted or (one.superseded and one.state in _REACHED_AN_END)
    ]
    best = better_end(ends)
    marked = {(one.number, one.worker): one._replace(superseded=one is not best) for one in ends}
    settled = Case(case.task, {**case.attempts, **marked})
    return settled if best is counted else _end(settled, best)


def _counted_end(case: Case, newcomer: Attempt) -> Attempt | None:
    """Return the attempt whose end is the task's now; None where the task has none, or the hub ended it."""
    task = case.task
    if task.state not in ENDED:
        return None
    like_it = [
        one
        for one in case.attempts.values()
        if one is not newcomer
        and not one.superseded
        and one.state in _REACHED_AN_END
        and (one.worker, one.finished_ms, _TASK_END[Outcome(one.state.value)])
        == (task.worker, task.finished_ms, task.state)
    ]
    return max(like_it, key=lambda one: one.number, default=None)


def _drops_of_others(case: Case, winner: Attempt) -> tuple[Drop, ...]:
    return tuple(
        _drop(case, other, f"{winner.worker} has done it")
        for other in case.attempts.values()
        if other is not winner and other.state in _LIVE
    )


def _with(case: Case, attempt: Attempt) -> Case:
    return Case(case.task, {**case.attempts, (attempt.number, attempt.worker): attempt})
