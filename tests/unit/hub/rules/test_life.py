"""The life of a task (DESIGN §4): what each report and each deadline makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from broker.messages import (
    Outcome,
    ReplyTo,
    TaskAccepted,
    TaskDeclined,
    TaskFinished,
    TaskProgress,
    TaskRequest,
    TaskSpec,
    TaskStarted,
)
from hub.errors import NotPossible
from hub.rules.actions import Cancel, Resolve, Retry, act
from hub.rules.ends import RAN_TO_ITS_END, better_end
from hub.rules.hello import Memory, answer
from hub.rules.life import (
    assign,
    is_refused,
    last_number,
    on_accepted,
    on_declined,
    on_expired,
    on_finished,
    on_lost,
    on_progress,
    on_started,
    on_unaccepted,
    refuse,
)
from hub.rules.task import ENDED, HELD, Attempt, AttemptState, Case, Task, TaskState, new_task

if TYPE_CHECKING:
    from hub.rules.actions import Action
    from hub.rules.life import Verdict

NOW = 50_000
LIVE = (AttemptState.ASSIGNED, AttemptState.ACCEPTED, AttemptState.RUNNING)


def pending(*, attempts: int = 1, idempotent: bool = True, backoff: float = 1.0, expires: float | None = None) -> Case:
    spec = TaskSpec.model_validate(
        {
            "kind": "noop",
            "idempotent": idempotent,
            "retry": {"max_attempts": attempts, "backoff_seconds": backoff},
            "expires_in_seconds": expires,
        }
    )
    return Case(new_task(spec, "t1", via="http", site="site-a", pinned=None, now=1000))


def accept(case: Case, worker: str = "w1", attempt: int = 1, at: int = 10) -> Verdict:
    return on_accepted(case, TaskAccepted(at=at, task="t1", attempt=attempt), worker)


def start(case: Case, worker: str = "w1", attempt: int = 1, at: int = 20) -> Verdict:
    return on_started(case, TaskStarted(at=at, task="t1", attempt=attempt), worker)


def finish(
    case: Case, outcome: Outcome = Outcome.SUCCEEDED, worker: str = "w1", attempt: int = 1, at: int = 30
) -> Verdict:
    result = f"{worker}/{attempt}"
    error = None if outcome is Outcome.SUCCEEDED else f"{outcome.value} on {worker}"
    event = TaskFinished(at=at, task="t1", attempt=attempt, outcome=outcome, result=result, error=error)
    return on_finished(case, event, worker, NOW)


def decline(case: Case, worker: str = "w1", attempt: int = 1) -> Verdict:
    return on_declined(case, TaskDeclined(at=15, task="t1", attempt=attempt, reason="no docker"), worker)


def running(*, idempotent: bool = True, attempts: int = 1) -> Case:
    case, _ = accept(assign(pending(idempotent=idempotent, attempts=attempts), "w1", 5))
    return start(case)[0]


def moved(*, idempotent: bool = True) -> Case:
    """Return a task that w1 was lost with, and that w2 runs as attempt 2 (or that is unknown)."""
    case = on_lost(running(idempotent=idempotent), 1, "w1 is offline", NOW)
    return start(accept(assign(case, "w2", 40), "w2", 2)[0], "w2", 2)[0]


# -- the straight way -------------------------------------------------------------------------------------------------


def test_a_task_comes_in_pending_with_its_deadline() -> None:
    task = pending(expires=60).task
    assert (task.state, task.attempt, task.worker, task.expires_ms) == (TaskState.PENDING, 0, None, 61_000)


def test_what_is_kept_of_a_request_is_its_spec_and_where_to_reply() -> None:
    request = TaskRequest(id="t1", kind="noop", params={"n": 1})
    task = new_task(request, "t1", via="site", site="a", pinned="w1", now=1, reply=ReplyTo(topic="edge/v1/replies/me"))
    assert TaskSpec.model_validate_json(task.spec) == request.spec()
    assert task.reply == '{"topic":"edge/v1/replies/me"}'
    assert task.digest == task._replace(via="http").digest


def test_each_assignment_is_an_attempt_with_a_growing_number() -> None:
    case = assign(pending(), "w1", 5)
    assert (case.task.state, case.task.attempt, case.task.worker) == (TaskState.ASSIGNED, 1, "w1")
    assert case.attempts[1, "w1"] == Attempt(1, "w1", AttemptState.ASSIGNED, assigned_ms=5)
    again = assign(on_lost(case, 1, "gone", NOW), "w2", 9)
    assert (again.task.attempt, again.task.worker) == (2, "w2")


def test_accepted_started_finished() -> None:
    case, drops = accept(assign(pending(), "w1", 5))
    assert (case.task.state, case.attempts[1, "w1"].state, drops) == (TaskState.RUNNING, AttemptState.ACCEPTED, ())
    case, drops = start(case)
    assert (case.task.started_ms, case.attempts[1, "w1"].state, drops) == (20, AttemptState.RUNNING, ())
    case, drops = finish(case)
    assert drops == ()
    assert case.task.state is TaskState.SUCCEEDED
    assert (case.task.result, case.task.error, case.task.finished_ms) == ("w1/1", None, 30)
    attempt = case.attempts[1, "w1"]
    assert (attempt.accepted_ms, attempt.started_ms, attempt.finished_ms, attempt.superseded) == (10, 20, 30, False)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.SUCCEEDED, TaskState.SUCCEEDED),
        (Outcome.FAILED, TaskState.FAILED),
        (Outcome.TIMED_OUT, TaskState.TIMED_OUT),
        (Outcome.CANCELLED, TaskState.CANCELLED),
        (Outcome.INTERRUPTED, TaskState.FAILED),
        (Outcome.EXPIRED, TaskState.EXPIRED),
    ],
)
def test_every_outcome_ends_the_task(outcome: Outcome, state: TaskState) -> None:
    case, _ = finish(running(), outcome)
    assert case.task.state is state
    assert case.attempts[1, "w1"].state.value == outcome.value


def test_a_finish_alone_is_enough() -> None:
    case, _ = finish(assign(pending(), "w1", 5))
    assert case.task.state is TaskState.SUCCEEDED


def test_a_start_says_that_it_is_held() -> None:
    case, drops = start(assign(pending(), "w1", 5))
    assert (case.task.state, case.task.started_ms, drops) == (TaskState.RUNNING, 20, ())


def test_progress_is_kept_and_moves_nothing() -> None:
    before = running()
    event = TaskProgress(at=25, task="t1", attempt=1, fraction=0.5, message="half")
    case, drops = on_progress(before, event, "w1")
    assert case.task == before.task
    assert (case.attempts[1, "w1"].progress, case.attempts[1, "w1"].progress_message, drops) == (0.5, "half", ())


# -- declined, retried, lost, expired ---------------------------------------------------------------------------------


def test_a_declined_task_is_placed_anew_and_says_why() -> None:
    case, drops = decline(assign(pending(), "w1", 5))
    assert (case.task.state, case.task.worker, drops) == (TaskState.PENDING, None, ())
    assert case.task.reason == "w1 declined it: no docker"
    assert case.attempts[1, "w1"].state is AttemptState.DECLINED
    assert assign(case, "w2", 9).task.attempt == 2


def test_a_decline_of_an_old_attempt_moves_nothing() -> None:
    before = moved()
    case, _ = decline(before, "w1", 1)
    assert case.task == before.task


def test_a_failed_task_is_tried_again_after_a_wait_that_doubles() -> None:
    case = pending(attempts=3, backoff=2)
    for number, wait in ((1, 2000), (2, 4000)):
        case, _ = finish(assign(case, "w1", 5), Outcome.FAILED, attempt=number)
        assert case.task.state is TaskState.PENDING
        assert case.task.not_before_ms == NOW + wait
        assert case.task.reason == f"try {number} of 3 ended: failed on w1"
    case, _ = finish(assign(case, "w1", 5), Outcome.FAILED, attempt=3)
    assert (case.task.state, case.task.result) == (TaskState.FAILED, "w1/3")


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.INTERRUPTED])
def test_what_may_go_better_next_time_is_tried_again(outcome: Outcome) -> None:
    assert finish(running(attempts=2), outcome)[0].task.state is TaskState.PENDING


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.EXPIRED, Outcome.SUCCEEDED])
def test_what_was_meant_is_not_tried_again(outcome: Outcome) -> None:
    assert finish(running(attempts=2), outcome)[0].task.state in ENDED


def test_a_task_that_may_not_run_twice_is_never_tried_again() -> None:
    assert finish(running(idempotent=False, attempts=5), Outcome.FAILED)[0].task.state is TaskState.FAILED


def test_a_lost_or_declined_attempt_is_not_held_against_the_task() -> None:
    case = on_lost(running(attempts=2), 1, "gone", NOW)
    case, _ = decline(assign(case, "w2", 5), "w2", 2)
    case, _ = finish(assign(case, "w3", 5), Outcome.FAILED, "w3", 3)
    assert case.task.state is TaskState.PENDING


def test_a_lost_task_that_may_run_twice_is_placed_anew() -> None:
    case = on_lost(running(), 1, "w1 is offline", NOW)
    assert (case.task.state, case.task.worker, case.task.reason) == (TaskState.PENDING, None, "w1 is offline")
    assert case.attempts[1, "w1"].state is AttemptState.LOST


def test_of_a_lost_task_that_may_not_run_twice_we_do_not_know() -> None:
    case = on_lost(running(idempotent=False), 1, "w1 is offline", NOW)
    assert (case.task.state, case.task.worker) == (TaskState.UNKNOWN, "w1")


@pytest.mark.parametrize("case", [pending(), finish(running())[0], moved()], ids=["pending", "ended", "moved"])
def test_losing_an_attempt_that_is_not_current_changes_nothing(case: Case) -> None:
    assert on_lost(case, 1, "gone", NOW) == case


def test_a_task_that_nobody_began_in_time_expires_and_says_what_it_waited_for() -> None:
    case = on_expired(pending(), NOW, "no worker at site-a is online")
    assert (case.task.state, case.task.finished_ms) == (TaskState.EXPIRED, NOW)
    assert case.task.error == "not started in time: no worker at site-a is online"


@pytest.mark.parametrize("case", [running(), assign(pending(), "w1", 5), finish(running())[0]])
def test_only_what_is_pending_expires(case: Case) -> None:
    assert on_expired(case, NOW, None) == case


# -- fencing ----------------------------------------------------------------------------------------------------------


def test_an_attempt_that_was_superseded_is_dropped_when_it_is_accepted() -> None:
    before = moved()
    case, (drop,) = accept(before, "w1", 1)
    assert case.task == before.task
    assert case.attempts[1, "w1"].superseded
    assert (drop.worker, drop.task, drop.attempt, drop.reason) == ("w1", "t1", 1, "another worker holds the task")


def test_an_attempt_that_starts_late_is_dropped_too() -> None:
    before = moved()
    case, (drop,) = start(before, "w1", 1)
    assert case.task == before.task
    assert (drop.worker, drop.attempt) == ("w1", 1)


def test_of_two_workers_with_one_attempt_the_first_has_it() -> None:
    case, none = accept(pending(), "w1", 1)
    case, (drop,) = accept(case, "w2", 1)
    assert none == ()
    assert (case.task.worker, drop.worker) == ("w1", "w2")


def test_an_attempt_at_an_ended_task_is_dropped() -> None:
    before, _ = finish(running())
    case, (drop,) = accept(before, "w2", 2)
    assert case.task == before.task
    assert (drop.worker, drop.attempt, drop.reason) == ("w2", 2, "the task has ended")


def test_an_attempt_that_has_ended_is_not_held_again() -> None:
    waiting, _ = finish(running(attempts=2), Outcome.FAILED)
    case, (drop,) = accept(waiting)
    assert case == waiting
    assert drop.reason == "the attempt has ended"
    assert start(waiting) == (waiting, ())
    assert decline(waiting) == (waiting, ())
    assert finish(waiting, Outcome.FAILED) == (waiting, ())


def test_a_lost_worker_that_comes_back_before_anybody_else_goes_on() -> None:
    lost = on_lost(running(), 1, "w1 is offline", NOW)
    for again in (accept, start):
        case, drops = again(lost)
        assert (case.task.state, case.task.worker, case.task.attempt) == (TaskState.RUNNING, "w1", 1)
        assert case.attempts[1, "w1"].state in LIVE
        assert drops == ()


def test_an_unknown_task_ends_when_its_worker_tells() -> None:
    case, _ = finish(on_lost(running(idempotent=False), 1, "gone", NOW), Outcome.FAILED)
    assert case.task.state is TaskState.FAILED


def test_a_late_failure_does_not_end_what_another_worker_runs() -> None:
    case, _ = finish(moved(), Outcome.FAILED, "w1", 1)
    assert (case.task.state, case.task.worker) == (TaskState.RUNNING, "w2")
    assert case.attempts[1, "w1"].superseded


def test_a_late_success_ends_it_and_the_other_is_dropped() -> None:
    case, (drop,) = finish(moved(), Outcome.SUCCEEDED, "w1", 1)
    assert (case.task.state, case.task.worker, case.task.result) == (TaskState.SUCCEEDED, "w1", "w1/1")
    assert not case.attempts[1, "w1"].superseded
    assert (drop.worker, drop.attempt, drop.reason) == ("w2", 2, "w1 has done it")


def test_what_was_only_sent_when_another_attempt_ended_the_task_does_not_look_as_if_it_went_on() -> None:
    sent = assign(on_lost(running(), 1, "w1 is offline", NOW), "w2", 40)
    done, drops = finish(sent)
    assert [(drop.worker, drop.attempt) for drop in drops] == [("w2", 2)]
    assert (done.attempts[2, "w2"].state, done.attempts[2, "w2"].superseded) == (AttemptState.LOST, True)

    taken, drops = accept(done, "w2", 2)  # it had taken it after all
    assert [(drop.worker, drop.attempt) for drop in drops] == [("w2", 2)]
    stopped, _ = finish(taken, Outcome.CANCELLED, "w2", 2)
    assert (stopped.attempts[2, "w2"].state, stopped.attempts[2, "w2"].superseded) == (AttemptState.CANCELLED, True)
    assert (stopped.task.state, stopped.task.worker) == (TaskState.SUCCEEDED, "w1")


def test_a_success_of_an_attempt_that_was_told_to_stop_counts_all_the_same() -> None:
    case, _ = accept(moved(), "w1", 1)
    case, _ = finish(case, Outcome.SUCCEEDED, "w1", 1)
    assert case.task.state is TaskState.SUCCEEDED
    assert not case.attempts[1, "w1"].superseded


# -- two ends ---------------------------------------------------------------------------------------------------------

End = tuple[str, int, Outcome, int]


@pytest.mark.parametrize(
    ("one", "other", "winner"),
    [
        (("w1", 1, Outcome.FAILED, 30), ("w2", 2, Outcome.SUCCEEDED, 90), "w2"),
        (("w1", 1, Outcome.SUCCEEDED, 90), ("w2", 2, Outcome.FAILED, 30), "w1"),
        (("w1", 1, Outcome.SUCCEEDED, 90), ("w2", 2, Outcome.SUCCEEDED, 30), "w2"),
        (("w1", 1, Outcome.SUCCEEDED, 30), ("w2", 2, Outcome.SUCCEEDED, 30), "w1"),
        (("w1", 1, Outcome.FAILED, 30), ("w2", 2, Outcome.FAILED, 90), "w1"),
        (("w1", 1, Outcome.FAILED, 90), ("w2", 2, Outcome.TIMED_OUT, 30), "w2"),
        (("w1", 1, Outcome.FAILED, 30), ("w2", 2, Outcome.FAILED, 30), "w1"),
    ],
)
def test_of_two_ends_the_same_one_counts_in_either_order(one: End, other: End, winner: str) -> None:
    for first, second in ((one, other), (other, one)):
        case = moved()
        for worker, number, outcome, at in (first, second):
            case, _ = finish(case, outcome, worker, number, at)
        assert case.task.worker == winner
        assert {attempt.worker: attempt.superseded for attempt in case.attempts.values()} == {
            "w1": winner != "w1",
            "w2": winner != "w2",
        }
        assert case.task.result == case.attempts[int(winner[1]), winner].result


@given(
    st.lists(st.tuples(st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED]), st.integers(0, 3)), min_size=3, max_size=3)
)
def test_of_three_ends_the_same_one_counts_in_every_order(ends: list[tuple[Outcome, int]]) -> None:
    case = moved()
    case = start(accept(assign(on_lost(case, 2, "gone", NOW), "w3", 50), "w3", 3)[0], "w3", 3)[0]
    winners = set()
    for order in itertools.permutations(enumerate(ends, start=1)):
        ended = case
        for number, (outcome, at) in order:
            ended, _ = finish(ended, outcome, f"w{number}", number, at)
        winners.add((ended.task.worker, ended.task.state, ended.task.result))
        assert sum(not attempt.superseded for attempt in ended.attempts.values()) == 1
    assert len(winners) == 1


def test_a_try_that_led_to_another_does_not_compete_with_the_end() -> None:
    case, _ = finish(running(attempts=2), Outcome.FAILED, at=30)
    case, _ = finish(assign(case, "w1", 40), Outcome.FAILED, attempt=2, at=60)
    case, _ = finish(case, Outcome.FAILED, "w2", 2, at=90)
    assert (case.task.result, case.task.worker) == ("w1/2", "w1")
    assert not case.attempts[2, "w1"].superseded
    assert case.attempts[2, "w2"].superseded


def test_a_worker_that_ran_what_had_expired_here_is_believed() -> None:
    case, _ = finish(on_expired(pending(), NOW, None))
    assert (case.task.state, case.task.worker) == (TaskState.SUCCEEDED, "w1")


def test_better_ends() -> None:
    ends = [
        Attempt(3, "w3", AttemptState.FAILED, finished_ms=1),
        Attempt(2, "w2", AttemptState.SUCCEEDED, finished_ms=9),
        Attempt(1, "w1", AttemptState.SUCCEEDED, finished_ms=9),
        Attempt(1, "w0", AttemptState.SUCCEEDED, finished_ms=10),
    ]
    for order in itertools.permutations(ends):
        assert better_end(order) is ends[2]


# -- a clash ----------------------------------------------------------------------------------------------------------


def test_a_refused_attempt_stays_out_of_the_tasks_life() -> None:
    before = running()
    case = refuse(before, 1, "w2", "clashing id")
    event = TaskStarted(at=1, task="t1", attempt=1)
    assert case.task == before.task
    assert is_refused(case, event, "w2")
    assert not is_refused(case, event, "w1")
    assert not is_refused(case, event, "w3")


def test_an_attempt_that_is_known_is_not_refused() -> None:
    before = running()
    assert refuse(before, 1, "w1", "clashing id") == before


# -- whatever comes, in whatever order --------------------------------------------------------------------------------

Step = Callable[[Case], Case]
WORKERS, NUMBERS = st.sampled_from(["w1", "w2", "w3"]), st.integers(1, 3)


def reported(report: Callable[[Case, str, int], Verdict]) -> st.SearchStrategy[Step]:
    return st.builds(lambda worker, number: lambda case: report(case, worker, number)[0], WORKERS, NUMBERS)


def ended(outcome: Outcome, worker: str, number: int, at: int) -> Step:
    return lambda case: finish(case, outcome, worker, number, at)[0]


REPORTS: st.SearchStrategy[Step] = st.one_of(
    reported(accept),
    reported(start),
    reported(decline),
    st.builds(ended, st.sampled_from(Outcome), WORKERS, NUMBERS, st.integers(0, 5)),
)
HELD_NUMBERS = st.sets(NUMBERS, max_size=2)
ACTIONS = st.sampled_from(
    [Cancel("no need"), Retry("once more"), Resolve(TaskState.SUCCEEDED, "seen"), Resolve(TaskState.CANCELLED)]
)
STEPS: st.SearchStrategy[Step] = st.one_of(
    REPORTS,
    st.builds(lambda worker: lambda case: _placed(case, worker), WORKERS),
    st.just(lambda case: on_lost(case, case.task.attempt, "gone", NOW)),
    st.just(lambda case: on_unaccepted(case, case.task.attempt, "silent", NOW)),
    st.just(lambda case: on_expired(case, NOW, None)),
    st.builds(lambda action: lambda case: _asked(case, action), ACTIONS),
    st.builds(
        lambda worker, held, memory, synced: lambda case: answer(case, worker, held, memory, NOW, synced=synced).case,
        WORKERS,
        HELD_NUMBERS,
        st.sampled_from(Memory),
        st.booleans(),
    ),
)
CASES = st.builds(pending, attempts=st.integers(1, 3), idempotent=st.booleans())


def _placed(case: Case, worker: str) -> Case:
    return assign(case, worker, 1) if case.task.state is TaskState.PENDING else case


def _asked(case: Case, action: Action) -> Case:
    try:
        return act(case, action, NOW)[0]
    except NotPossible:
        return case


def _rank(case: Case) -> tuple[bool, bool, int]:
    """How good the end is that counts: the attempt's own, for a task that was interrupted shows `failed` as well."""
    end = case.attempts[case.task.attempt, case.task.worker or ""]
    return end.state is not AttemptState.SUCCEEDED, end.state not in RAN_TO_ITS_END, end.finished_ms or 0


def _by_the_hub(task: Task) -> bool:
    return task.state in ENDED and task.worker is None


def _check(before: Case, case: Case) -> None:
    task = case.task
    assert last_number(case) >= last_number(before)
    assert set(case.attempts) >= set(before.attempts)
    if task.state in HELD:
        assert task.worker is not None
        holder = case.attempts[task.attempt, task.worker]
        assert holder.state in LIVE
        assert not holder.superseded
    if task.state is TaskState.PENDING:
        assert task.cancel_ms is None
        assert task.worker is None
    if task.state is TaskState.UNKNOWN:
        assert task.reason
        assert not task.idempotent
    if task.state in ENDED and not _by_the_hub(task):
        end = case.attempts[task.attempt, task.worker or ""]
        assert not end.superseded
        assert (end.result, end.error, end.finished_ms) == (task.result, task.error, task.finished_ms)
    if task.state in ENDED and before.task.state not in ENDED:
        assert not [one for one in case.attempts.values() if one.state is AttemptState.ASSIGNED]
    won = [one for one in case.attempts.values() if one.state is AttemptState.SUCCEEDED and not one.superseded]
    assert len(won) <= 1


@settings(max_examples=500)
@given(CASES, st.lists(STEPS, max_size=14))
def test_whatever_is_reported_the_books_are_in_order(case: Case, steps: list[Step]) -> None:
    for step in steps:
        before, case = case, step(case)
        _check(before, case)
        if before.task.state in ENDED and case.task.state is not TaskState.PENDING:  # where nobody tries it again
            assert case.task.state in ENDED
            assert _by_the_hub(before.task) or _rank(case) <= _rank(before)
        if before.task.state is TaskState.SUCCEEDED and not _by_the_hub(before.task):
            assert case.task.state is TaskState.SUCCEEDED


@given(CASES, st.lists(STEPS, max_size=10), REPORTS)
def test_a_report_that_comes_twice_is_one(case: Case, steps: list[Step], report: Step) -> None:
    for step in steps:
        case = step(case)
    once = report(case)
    assert report(once) == once


@given(CASES, st.lists(STEPS, max_size=10), st.lists(STEPS, max_size=6))
def test_what_somebody_asked_to_cancel_is_never_placed_again(case: Case, steps: list[Step], more: list[Step]) -> None:
    for step in steps:
        case = step(case)
    case = _asked(case, Cancel())
    if case.task.state in ENDED:
        return
    for step in more:
        before, case = case, step(case)
        if case.task.cancel_ms is None:
            assert before.task.state in {TaskState.UNKNOWN, *ENDED}  # a person wants it after all
            return
        assert case.task.state is not TaskState.PENDING
