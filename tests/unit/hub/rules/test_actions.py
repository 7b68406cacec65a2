"""What people may do to a task in each of its states (DESIGN §4)."""

from __future__ import annotations

import pytest

from broker.messages import Outcome, TaskFinished, TaskSpec, TaskStarted
from hub.errors import NotPossible
from hub.rules.actions import Action, Cancel, Resolve, Retry, act, possible
from hub.rules.life import assign, on_finished, on_lost, on_started
from hub.rules.task import Candidate, Case, Drop, TaskState, new_task

NOW = 90_000
ACTIONS: dict[str, Action] = {"cancel": Cancel(), "retry": Retry(), "resolve": Resolve(TaskState.SUCCEEDED)}


def pending(**spec: object) -> Case:
    asked = TaskSpec.model_validate({"kind": "noop", "idempotent": False, **spec})
    return Case(new_task(asked, "t1", via="http", site="site-a", pinned=None, now=1000))


def running() -> Case:
    return on_started(assign(pending(), "w1", 5), TaskStarted(at=20, task="t1", attempt=1), "w1")[0]


def ended(outcome: Outcome) -> Case:
    event = TaskFinished(at=30, task="t1", attempt=1, outcome=outcome, result=1, error="so it ended")
    return on_finished(running(), event, "w1", NOW)[0]


def unknown() -> Case:
    return on_lost(running(), 1, "w1 is offline", NOW)


@pytest.mark.parametrize(
    ("case", "verbs"),
    [
        (pending(), {"cancel"}),
        (assign(pending(), "w1", 5), {"cancel"}),
        (running(), {"cancel"}),
        (unknown(), {"cancel", "retry", "resolve"}),
        (ended(Outcome.SUCCEEDED), set()),
        (ended(Outcome.FAILED), {"retry"}),
        (ended(Outcome.TIMED_OUT), {"retry"}),
        (ended(Outcome.CANCELLED), {"retry"}),
    ],
)
def test_what_is_possible_is_possible_and_nothing_else(case: Case, verbs: set[str]) -> None:
    assert set(possible(case.task.state)) == verbs
    for verb, action in ACTIONS.items():
        if verb in verbs:
            act(case, action, NOW)
        else:
            with pytest.raises(NotPossible, match=f"t1 is {case.task.state}: {verb} is for one that is"):
                act(case, action, NOW)


def test_what_nobody_has_is_cancelled_at_once() -> None:
    case, drops = act(pending(), Cancel("no need"), NOW)
    task = case.task
    assert (task.state, task.error, task.finished_ms, drops) == (TaskState.CANCELLED, "cancelled: no need", NOW, ())


@pytest.mark.parametrize("case", [assign(pending(), "w1", 5), running()])
def test_what_a_worker_has_is_cancelled_by_that(case: Case) -> None:
    asked, drops = act(case, Cancel("no need"), NOW)
    assert (asked.task.state, asked.task.reason) == (case.task.state, "cancelling: no need")
    assert drops == (Drop("w1", "t1", 1, "cancelling: no need"),)
    assert act(asked, Cancel(), NOW + 5)[0].task.cancel_ms == NOW  # the first to ask


def test_what_workers_may_have_is_unknown_until_they_tell() -> None:
    offered = Case(pending().task._replace(offered_to={"w1": Candidate(), "w2": Candidate()}, attempt=1))
    case, _ = act(offered, Cancel(), NOW)
    assert (case.task.state, case.task.offered_to) == (TaskState.UNKNOWN, None)
    assert case.task.reason == "it was published to workers, and w1, w2 may have it; to be cancelled"


def test_an_unknown_task_stays_so_and_stops_where_it_shows_up() -> None:
    case, drops = act(unknown(), Cancel(), NOW)
    assert (case.task.state, case.task.reason) == (TaskState.UNKNOWN, "w1 is offline; to be cancelled")
    assert drops == (Drop("w1", "t1", 1, "cancelling"),)
    assert act(case, Cancel(), NOW)[0].task.reason == "w1 is offline; to be cancelled"


@pytest.mark.parametrize("case", [unknown(), ended(Outcome.FAILED)])
def test_a_retry_is_the_next_attempt_with_nothing_left_of_the_last(case: Case) -> None:
    task = act(case, Retry("once more"), NOW)[0].task
    assert (task.state, task.reason, task.attempt, task.worker) == (
        TaskState.PENDING,
        "to be tried again: once more",
        1,
        None,
    )
    assert (task.result, task.error, task.started_ms, task.finished_ms) == (None, None, None, None)
    assert assign(Case(task, case.attempts), "w2", NOW).task.attempt == 2


def test_a_retry_is_worth_as_long_as_the_task_was() -> None:
    case = on_lost(assign(pending(expires_in_seconds=60), "w1", 5), 1, "gone", NOW)
    assert act(case, Retry(), NOW)[0].task.expires_ms == NOW + 60_000


def test_a_person_says_what_became_of_it() -> None:
    task = act(unknown(), Resolve(TaskState.FAILED, {"door": "open"}, "the door is open"), NOW)[0].task
    assert (task.state, task.worker, task.reason) == (TaskState.FAILED, None, None)
    assert (task.result, task.error, task.finished_ms) == ({"door": "open"}, "the door is open", NOW)
