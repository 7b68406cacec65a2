"""Which attempt's log is meant, and why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.rules.task import AttemptState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.messages import LogPart
    from hub.rules.task import Attempt, Task

NOT_BEGUN = frozenset({AttemptState.ASSIGNED, AttemptState.ACCEPTED})
NEVER_BEGAN = frozenset({AttemptState.DECLINED, AttemptState.REFUSED})
MAY_WRITE = NOT_BEGUN | {AttemptState.RUNNING}


def choose(
    task: Task, attempts: Sequence[Attempt], number: int | None = None, worker: str | None = None
) -> Attempt | None:
    """Return the attempt that is meant: the task's own one, or else the last, of those that fit what is asked for."""
    fitting = [one for one in attempts if number in (None, one.number) and worker in (None, one.worker)]
    own = [one for one in fitting if (one.number, one.worker) == (task.attempt, task.worker)]
    began = [one for one in fitting if one.state not in NEVER_BEGAN]
    return next((found[-1] for found in (own, began, fitting) if found), None)


def why_none(attempt: Attempt, part: LogPart, dropped_until_ms: int | None) -> str:
    """Return why a worker keeps no log of an attempt; `dropped_until_ms` is by the hub's clock."""
    name = f"attempt {attempt.number} at {attempt.worker}"
    if attempt.state in NOT_BEGUN:
        return f"{name} has not begun: it is {attempt.state}"
    if attempt.state in NEVER_BEGAN:
        return f"{name} never began: it was {attempt.state}"
    if part.open:
        return f"{name} has written nothing yet"
    finished = attempt.finished_ms
    if dropped_until_ms is not None and (finished is None or finished <= dropped_until_ms + (attempt.error_ms or 0)):
        return f"{name} has no log any more: if it wrote one, it was dropped to make room for newer ones"
    return f"{name} wrote nothing"
