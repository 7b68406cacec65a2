"""Which end counts where a task has more than one (DESIGN §4): the same, in whatever order they are told.

A task is ended by the end of an attempt, or by the hub: it expired, was cancelled while nobody had it, or a person said
what became of it. Of an end by the hub, `Task.worker` is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.messages import Outcome
from hub.rules.task import ENDED, Attempt, AttemptState, Case, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

TASK_END = {
    Outcome.SUCCEEDED: TaskState.SUCCEEDED,
    Outcome.FAILED: TaskState.FAILED,
    Outcome.TIMED_OUT: TaskState.TIMED_OUT,
    Outcome.CANCELLED: TaskState.CANCELLED,
    Outcome.INTERRUPTED: TaskState.FAILED,
    Outcome.EXPIRED: TaskState.EXPIRED,
}
REACHED_AN_END = frozenset(AttemptState(outcome.value) for outcome in Outcome)
RAN_TO_ITS_END = frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.TIMED_OUT})
"""The others were stopped from outside, maybe by us: they say little about the task."""


def better_end(ends: Iterable[Attempt]) -> Attempt:
    """Return the end that counts: a success, else one that nobody stopped; then the earlier, then the lower attempt."""
    return min(
        ends,
        key=lambda end: (
            end.state is not AttemptState.SUCCEEDED,
            end.state not in RAN_TO_ITS_END,
            end.finished_ms or 0,
            end.number,
            end.worker,
        ),
    )


def settle_ends(case: Case, newcomer: Attempt) -> Case:
    """Let the best end count, whatever the order in which they were told, and keep the others as superseded.

    An end that led to another try is none of the task's, and does not compete. What the hub ended is ended anew only by
    an attempt that ran to its end.
    """
    counted = _counted_end(case, newcomer)
    if case.task.state in ENDED and counted is None and newcomer.state not in RAN_TO_ITS_END:
        superseded = newcomer._replace(superseded=True)
        return Case(case.task, {**case.attempts, (newcomer.number, newcomer.worker): superseded})
    ends = [
        one
        for one in case.attempts.values()
        if one is newcomer or one is counted or (one.superseded and one.state in REACHED_AN_END)
    ]
    best = better_end(ends)
    marked = {(one.number, one.worker): one._replace(superseded=one is not best) for one in ends}
    settled = Case(case.task, {**case.attempts, **marked})
    return settled if best is counted else _end(settled, best)


def _end(case: Case, attempt: Attempt) -> Case:
    task = case.task._replace(
        state=TASK_END[Outcome(attempt.state.value)],
        reason=None,
        worker=attempt.worker,
        attempt=attempt.number,
        result=attempt.result,
        error=attempt.error,
        started_ms=attempt.started_ms,
        finished_ms=attempt.finished_ms,
        not_before_ms=None,
        offered_to=None,
    )
    return Case(task, case.attempts)


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
        and one.state in REACHED_AN_END
        and (one.worker, one.finished_ms, TASK_END[Outcome(one.state.value)])
        == (task.worker, task.finished_ms, task.state)
    ]
    return max(like_it, key=lambda one: one.number, default=None)
