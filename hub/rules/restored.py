"""What a restore makes of tasks that had not ended when the backup was made.

The hub that made the backup went on: it gave tasks away, and was told of ends for which workers have their receipts,
and which they have forgotten. So of a task that may not run twice, nobody can say whether it has run. It becomes
`unknown`, and comes back by itself where its worker still holds it or still has its end to tell; else a person says
what is so.
"""

from __future__ import annotations

from hub.rules.children import is_parent
from hub.rules.hello import Memory
from hub.rules.life import cancelled, on_lost, unknown
from hub.rules.task import ENDED, HELD, Case, TaskState


def restored(case: Case, why: str, now: int) -> Case:
    """Return the case as the restored hub takes it up.

    Args:
        case: As it was when the backup was made.
        why: What people are told of a task that may not run twice.
        now: Milliseconds.

    """
    task = case.task
    if task.state in ENDED or task.idempotent or task.state is TaskState.UNKNOWN:
        return case
    if is_parent(task):
        return _parent(case, why, now)
    if task.state not in HELD:
        return Case(unknown(task, why), case.attempts)
    lost = on_lost(case, task.attempt, Memory.HUBS_LOST.value, now)  # with these words it is not sent once more
    return Case(unknown(lost.task, why), lost.attempts)


def _parent(case: Case, why: str, now: int) -> Case:
    """Give up a parent that had no children yet: it may have some by now, which would get a second task each."""
    if case.task.state is not TaskState.PENDING:
        return case
    return Case(cancelled(case.task, f"cancelled: {why}", now), case.attempts)
