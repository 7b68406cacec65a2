"""What a hello makes of the tasks at its worker (DESIGN §5): which attempts stop, go on, or are sent once more."""

from __future__ import annotations

import pytest

from broker.messages import TaskAccepted, TaskSpec
from hub.rules.actions import Cancel, act
from hub.rules.hello import Memory, answer, on_held, resume
from hub.rules.life import assign, on_accepted, on_lost
from hub.rules.task import AttemptState, Case, TaskState, new_task

NOW = 50_000


def assigned(*, idempotent: bool = True) -> Case:
    """Return a task that was sent to w1 as attempt 1."""
    spec = TaskSpec(kind="noop", idempotent=idempotent)
    return assign(Case(new_task(spec, "t1", via="http", site=None, pinned=None, now=1)), "w1", 5)


def accepted(*, idempotent: bool = True) -> Case:
    """Return one that w1 has accepted."""
    return on_accepted(assigned(idempotent=idempotent), TaskAccepted(at=10, task="t1", attempt=1), "w1")[0]


def lost(case: Case) -> Case:
    return on_lost(case, 1, "w1 is offline", NOW)


# -- what it holds ---------------------------------------------------------------------------------------------------


def test_what_it_holds_and_should_goes_on() -> None:
    for case in (assigned(), accepted()):
        back = answer(case, "w1", {1}, Memory.WHOLE, NOW)
        assert (back.case, back.drop, back.send) == (case, (), False)


@pytest.mark.parametrize("idempotent", [True, False])
def test_what_was_lost_with_it_goes_on_where_nobody_else_has_the_task(idempotent: bool) -> None:  # noqa: FBT001
    back = answer(lost(accepted(idempotent=idempotent)), "w1", {1}, Memory.WHOLE, NOW)
    task = back.case.task
    assert (task.state, task.worker, task.attempt, back.drop) == (TaskState.RUNNING, "w1", 1, ())
    attempt = back.case.attempts[1, "w1"]
    assert (attempt.state, attempt.error, attempt.superseded) == (AttemptState.ACCEPTED, None, False)


def test_what_another_has_by_now_stops() -> None:
    elsewhere = assign(lost(accepted()), "w2", 60)
    back = answer(elsewhere, "w1", {1}, Memory.WHOLE, NOW)
    assert (back.case, back.drop) == (elsewhere, (1,))


def test_an_attempt_that_the_hub_has_not_heard_of_is_told_by_the_journal() -> None:
    case = Case(assigned().task._replace(state=TaskState.PENDING, worker=None, offered_to={}, attempt=1), {})
    assert on_held(case, 1, "w1") == case


def test_an_attempt_that_this_database_has_lost_is_the_workers() -> None:
    case = Case(assigned().task._replace(state=TaskState.PENDING, worker=None, attempt=0), {})
    back = on_held(case, 3, "w1", Memory.HUBS_LOST)
    assert back is not None
    assert (back.task.state, back.task.worker, back.task.attempt) == (TaskState.RUNNING, "w1", 3)


def test_what_is_to_be_cancelled_stops_whoever_holds_it() -> None:
    case, _ = act(accepted(), Cancel(), NOW)
    assert answer(case, "w1", {1}, Memory.WHOLE, NOW).drop == (1,)


def test_what_has_ended_stops() -> None:
    ended = Case(accepted().task._replace(state=TaskState.SUCCEEDED), accepted().attempts)
    assert answer(ended, "w1", {1}, Memory.WHOLE, NOW).drop == (1,)


# -- what it does not hold -------------------------------------------------------------------------------------------


def test_what_never_came_is_sent_once_more() -> None:
    case = assigned()
    back = answer(case, "w1", (), Memory.WHOLE, NOW)
    assert (back.case, back.send) == (case, True)


def test_what_never_came_and_is_cancelled_is_not_sent() -> None:
    case, _ = act(assigned(), Cancel(), NOW)
    assert not answer(case, "w1", (), Memory.WHOLE, NOW).send


def test_what_it_accepted_is_left_to_its_journal() -> None:
    case = accepted()
    back = answer(case, "w1", (), Memory.WHOLE, NOW)
    assert (back.case, back.drop, back.send) == (case, (), False)


@pytest.mark.parametrize(
    ("case", "memory", "state"),
    [
        # a journal that is gone cannot tell any more
        (assigned(), Memory.WORKERS_LOST, TaskState.PENDING),
        (accepted(), Memory.WORKERS_LOST, TaskState.PENDING),
        (assigned(idempotent=False), Memory.WORKERS_LOST, TaskState.UNKNOWN),
        (accepted(idempotent=False), Memory.WORKERS_LOST, TaskState.UNKNOWN),
        # a database that is restored may have lost the end; the journal is there, and tells of what it accepted
        (assigned(), Memory.HUBS_LOST, TaskState.ASSIGNED),
        (accepted(), Memory.HUBS_LOST, TaskState.RUNNING),
        (assigned(idempotent=False), Memory.HUBS_LOST, TaskState.UNKNOWN),
        (accepted(idempotent=False), Memory.HUBS_LOST, TaskState.RUNNING),
    ],
)
def test_where_one_of_the_two_has_lost_something(case: Case, memory: Memory, state: TaskState) -> None:
    assert answer(case, "w1", (), memory, NOW).case.task.state is state


# -- unknown, and never taken ----------------------------------------------------------------------------------------


def test_what_it_never_took_before_it_went_is_sent_as_the_same_attempt() -> None:
    case = lost(assigned(idempotent=False))
    assert case.task.state is TaskState.UNKNOWN
    back = answer(case, "w1", (), Memory.WHOLE, NOW, synced=True)
    assert (back.case.task.state, back.case.task.attempt, back.send) == (TaskState.ASSIGNED, 1, True)
    assert back.case.attempts[1, "w1"].state is AttemptState.ASSIGNED


def test_it_waits_until_the_journal_is_committed() -> None:
    case = lost(assigned(idempotent=False))
    back = answer(case, "w1", (), Memory.WHOLE, NOW, synced=False)
    assert (back.case, back.send) == (case, False)


@pytest.mark.parametrize("memory", [Memory.WORKERS_LOST, Memory.HUBS_LOST])
def test_once_something_was_lost_it_is_never_resumed(memory: Memory) -> None:
    case = answer(lost(assigned(idempotent=False)), "w1", (), memory, NOW, synced=True).case
    assert case.task.state is TaskState.UNKNOWN
    later = answer(case, "w1", (), Memory.WHOLE, NOW, synced=True)
    assert (later.case, later.send) == (case, False)


def test_what_was_accepted_is_not_resumed() -> None:
    case = lost(accepted(idempotent=False))
    assert resume(case, "w1") == case


def test_what_another_worker_never_took_is_not_this_ones() -> None:
    case = lost(assigned(idempotent=False))
    assert resume(case, "w2") == case


def test_what_is_to_be_cancelled_is_not_resumed() -> None:
    case, _ = act(lost(assigned(idempotent=False)), Cancel(), NOW)
    assert resume(case, "w1") == case


def test_of_two_attempts_only_the_current_one_goes_on() -> None:
    case = assign(lost(accepted()), "w1", 60)
    back = answer(case, "w1", {1, 2}, Memory.WHOLE, NOW)
    assert (back.case, back.drop, back.send) == (case, (1,), False)
