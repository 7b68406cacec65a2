"""What becomes of a task for each matching worker, by what becomes of its children (DESIGN §4).

It runs while any of them is open, `unknown` included, and has ended when they all have. That is computed from the
children as they stand: one that is tried again, or turns out to have ended better after all, takes its parent along.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from hub.errors import NotOfParents
from hub.rules import actions
from hub.rules.actions import POSSIBLE_IN, Cancel, Resolve, Retry
from hub.rules.life import CANCELLING
from hub.rules.task import ENDED, Case, Drop, Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hub.rules.actions import Action

MAX_NAMED = 500
"""How many children a parent's result names: those that did not succeed come first, and the API lists all."""


class End(NamedTuple):
    """How a child has ended, and when: milliseconds by the hub's clock."""

    worker: str
    state: TaskState
    finished_ms: int | None


def settled(parent: Task, ends: Sequence[End]) -> Task:
    """Return a parent all of whose children have ended.

    Its result counts them by state, and names up to `MAX_NAMED`: `{"succeeded": 2, "failed": 1, "children": {"w1":
    "failed", …}}`, with `not_named` where there are more.
    """
    if not ends:
        return parent
    counts = Counter(end.state for end in ends)
    failures = len(ends) - counts[TaskState.SUCCEEDED]
    last = max(end.finished_ms or 0 for end in ends)
    return parent._replace(
        state=_end(parent, failures),
        reason=None,
        result=_result(ends, counts),
        error=_error(parent, counts, len(ends)) if failures else None,
        finished_ms=max(last, parent.started_ms or 0),  # a worker's clock may be wrong by more than it took
    )


def reopened(parent: Task) -> Task:
    """Return a parent with a child that has not ended: as it is, but if it had ended, it has not."""
    if parent.state not in ENDED:
        return parent
    return parent._replace(
        state=TaskState.RUNNING, reason="a child is tried again", result=None, error=None, finished_ms=None
    )


def act(
    parent: Case, children: Mapping[str, Case], action: Action, now: int
) -> tuple[dict[str, Case], tuple[Drop, ...]]:
    """Do to a parent what somebody asked for, and so to those of its children of which it can be asked.

    Return all that moved, and the drops that must be sent. Whether the parent has ended is for `settled` to say.

    Raises:
        NotPossible: If the parent's state does not allow that.
        NotOfParents: If it can be asked of a child only.

    """
    task = parent.task
    if isinstance(action, Resolve):
        raise NotOfParents(action.verb, task.id, task.state, actions.possible(task.state))
    if not children:  # it still waits for a worker that matches, or did so to its end
        alone, drops = actions.act(parent, action, now)
        return {task.id: alone}, drops
    actions.check(task, action)
    asked = {name: child for name, child in children.items() if child.task.state in POSSIBLE_IN[action.verb]}
    verdicts = {name: actions.act(child, action, now) for name, child in asked.items()}
    moved = {name: child for name, (child, _) in verdicts.items()}
    moved[task.id] = Case(_asked(task, action, now), parent.attempts)
    return moved, tuple(drop for _, drops in verdicts.values() for drop in drops)


def _asked(parent: Task, action: Cancel | Retry, now: int) -> Task:
    said = f": {action.reason}" if action.reason else ""
    if isinstance(action, Cancel):
        return parent._replace(cancel_ms=parent.cancel_ms or now, reason=f"{CANCELLING}{said}")
    return reopened(parent)._replace(
        reason=f"tried again{said}",
        cancel_ms=None,
        expires_ms=None if parent.expires_ms is None else now + parent.expires_ms - parent.created_ms,
    )


def _end(parent: Task, failures: int) -> TaskState:
    if not failures:
        return TaskState.SUCCEEDED
    return TaskState.FAILED if parent.cancel_ms is None else TaskState.CANCELLED


def _error(parent: Task, counts: Counter[TaskState], total: int) -> str:
    ways = ", ".join(f"{counts[state]} {state}" for state in TaskState if counts[state] and state != "succeeded")
    said = f"{total - counts[TaskState.SUCCEEDED]} of {total} did not succeed: {ways}"
    return said if parent.cancel_ms is None else f"cancelled; {said}"


def _result(ends: Sequence[End], counts: Counter[TaskState]) -> dict[str, object]:
    in_order = sorted(ends, key=lambda end: (end.state is TaskState.SUCCEEDED, end.worker))
    result: dict[str, object] = {state.value: counts[state] for state in TaskState if counts[state]}
    result["children"] = {end.worker: end.state.value for end in in_order[:MAX_NAMED]}
    if len(ends) > MAX_NAMED:
        result["not_named"] = len(ends) - MAX_NAMED
    return result
