"""What a restore makes of tasks that had not ended."""

from __future__ import annotations

from typing import Any

import pytest

from broker.messages import TaskSpec
from hub.rules.hello import Memory, answer
from hub.rules.life import assign
from hub.rules.restored import restored
from hub.rules.task import AttemptState, Candidate, Case, Task, TaskState, new_task

WHY = "restored: it may have run since"


def a_task(*, idempotent: bool, target: Any = "one", **as_it_is: Any) -> Task:  # noqa: ANN401
    spec = TaskSpec(kind="noop", idempotent=idempotent, target=target)
    return new_task(spec, "t1", via="http", site=None, pinned=None, now=1)._replace(**as_it_is)


def test_what_may_run_twice_is_left_as_it_was() -> None:
    waiting = Case(a_task(idempotent=True))
    held = assign(waiting, "w1", 1)
    assert restored(waiting, WHY, 9) is waiting
    assert restored(held, WHY, 9) is held


@pytest.mark.parametrize("offered", [None, {"w1": Candidate()}])
def test_a_task_that_may_not_run_twice_and_waited_is_unknown(offered: dict[str, Candidate] | None) -> None:
    case = restored(Case(a_task(idempotent=False, offered_to=offered)), WHY, 9)
    assert (case.task.state, case.task.reason, case.task.offered_to) == (TaskState.UNKNOWN, WHY, None)


def test_a_task_at_a_worker_is_unknown_and_goes_on_where_the_worker_holds_it() -> None:
    case = restored(assign(Case(a_task(idempotent=False)), "w1", 1), WHY, 9)
    assert (case.task.state, case.task.reason) == (TaskState.UNKNOWN, WHY)
    back = answer(case, "w1", held={1}, memory=Memory.HUBS_LOST, now=10)
    assert (back.case.task.state, back.drop) == (TaskState.RUNNING, ())


@pytest.mark.parametrize("memory", list(Memory))
def test_a_task_at_a_worker_that_does_not_hold_it_is_not_sent_once_more(memory: Memory) -> None:
    case = restored(assign(Case(a_task(idempotent=False)), "w1", 1), WHY, 9)
    asked = answer(case, "w1", held=(), memory=memory, now=10, synced=True)
    assert (asked.case.task.state, asked.send) == (TaskState.UNKNOWN, False)


def test_what_was_to_be_cancelled_still_is() -> None:
    held = assign(Case(a_task(idempotent=False)), "w1", 1)
    case = restored(Case(held.task._replace(cancel_ms=5), held.attempts), WHY, 9)
    assert case.task.reason == f"{WHY}; to be cancelled"
    assert case.attempts[1, "w1"].state is AttemptState.LOST


def test_a_parent_without_children_is_given_up_and_one_that_has_some_waits_for_them() -> None:
    waiting = Case(a_task(idempotent=False, target="all"))
    case = restored(waiting, WHY, 9)
    assert (case.task.state, case.task.error, case.task.finished_ms) == (TaskState.CANCELLED, f"cancelled: {WHY}", 9)
    expanded = Case(waiting.task._replace(state=TaskState.RUNNING))
    assert restored(expanded, WHY, 9) is expanded


def test_what_has_ended_stays_so() -> None:
    ended = Case(a_task(idempotent=False, state=TaskState.FAILED))
    assert restored(ended, WHY, 9) is ended
