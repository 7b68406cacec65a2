"""What becomes of a task for each matching worker, by what becomes of its children."""

from __future__ import annotations

import pytest

from broker.messages import Outcome, TaskFinished, TaskSpec, TaskStarted
from hub.errors import NotOfParents, NotPossible
from hub.rules.actions import Cancel, Resolve, Retry
from hub.rules.children import Member, expanded
from hub.rules.life import assign, on_finished, on_started
from hub.rules.parents import MAX_NAMED, End, act, reopened, settled
from hub.rules.task import Case, TaskState, new_task

NOW = 90_000
OK, FAILED = TaskState.SUCCEEDED, TaskState.FAILED
WORKERS = ("w1", "w2", "w3")


def family(**spec: object) -> dict[str, Case]:
    asked = TaskSpec.model_validate({"kind": "noop", "target": "all", **spec})
    alone = Case(new_task(asked, "p", via="http", site=None, pinned=None, now=1000))
    return expanded(alone, {Member(worker, "site-a"): f"p:{worker}" for worker in WORKERS}, 2000)


def running(child: Case) -> Case:
    worker = child.task.pinned or ""
    return on_started(assign(child, worker, 5), TaskStarted(at=20, task=child.task.id, attempt=1), worker)[0]


def ended(child: Case, outcome: Outcome, at: int = 30) -> Case:
    event = TaskFinished(at=at, task=child.task.id, attempt=1, outcome=outcome)
    return on_finished(running(child), event, child.task.pinned or "", NOW)[0]


def ends(*states: TaskState, at: int = 5000) -> list[End]:
    return [End(f"w{number}", state, at + number) for number, state in enumerate(states, 1)]


def test_a_parent_has_succeeded_when_all_have() -> None:
    task = settled(family()["p"].task, ends(OK, OK))
    assert (task.state, task.error, task.started_ms, task.finished_ms) == (OK, None, 2000, 5002)
    assert task.result == {"succeeded": 2, "children": {"w1": "succeeded", "w2": "succeeded"}}


def test_a_parent_has_failed_when_any_did_not_succeed_and_says_how_many_and_who() -> None:
    task = settled(family()["p"].task, ends(OK, FAILED, OK, TaskState.EXPIRED))
    assert (task.state, task.error) == (FAILED, "2 of 4 did not succeed: 1 failed, 1 expired")
    assert task.result == {
        "succeeded": 2,
        "failed": 1,
        "expired": 1,
        "children": {"w2": "failed", "w4": "expired", "w1": "succeeded", "w3": "succeeded"},
    }


def test_a_parent_that_was_cancelled_is_so_unless_all_had_succeeded_by_then() -> None:
    asked = family()["p"].task._replace(cancel_ms=3000)
    task = settled(asked, ends(OK, TaskState.CANCELLED))
    assert (task.state, task.error) == (TaskState.CANCELLED, "cancelled; 1 of 2 did not succeed: 1 cancelled")
    assert settled(asked, ends(OK, OK)).state is OK


def test_the_result_of_five_thousand_names_first_who_did_not_succeed() -> None:
    states = [OK] * 4990 + [FAILED] * 10
    task = settled(family()["p"].task, ends(*states))
    assert isinstance(task.result, dict)
    named = task.result["children"]
    assert (len(named), task.result["not_named"]) == (MAX_NAMED, 5000 - MAX_NAMED)
    assert list(named.values())[:11] == ["failed"] * 10 + ["succeeded"]


def test_a_parent_never_ends_before_it_began() -> None:
    assert settled(family()["p"].task, ends(OK, at=7)).finished_ms == 2000


def test_what_a_parent_came_to_is_computed_anew_and_the_same_whoever_ended_last() -> None:
    task = family()["p"].task
    for_good = settled(task, ends(OK, OK))
    assert settled(settled(task, ends(OK, FAILED)), ends(OK, OK)) == for_good
    again = reopened(settled(task, ends(OK, FAILED)))
    assert (again.state, again.result, again.error, again.finished_ms) == (TaskState.RUNNING, None, None, None)
    assert settled(again, ends(OK, OK)) == for_good
    assert reopened(task) is task


def test_to_cancel_a_parent_cancels_what_is_open_of_its_children_and_drops_what_runs() -> None:
    one = family()
    children = {"p:w1": ended(one["p:w1"], Outcome.SUCCEEDED), "p:w2": running(one["p:w2"]), "p:w3": one["p:w3"]}
    moved, drops = act(one["p"], children, Cancel("no need"), NOW)
    assert {name: case.task.state for name, case in moved.items()} == {
        "p": TaskState.RUNNING,
        "p:w2": TaskState.RUNNING,
        "p:w3": TaskState.CANCELLED,
    }
    assert [(drop.worker, drop.task) for drop in drops] == [("w2", "p:w2")]
    assert (moved["p"].task.cancel_ms, moved["p"].task.reason) == (NOW, "cancelling: no need")
    assert moved["p:w2"].task.reason == "cancelling: no need"


def test_to_retry_a_parent_retries_those_that_did_not_succeed_with_as_much_time_as_there_was() -> None:
    one = family(expires_in_seconds=60)
    children = {
        "p:w1": ended(one["p:w1"], Outcome.SUCCEEDED),
        "p:w2": ended(one["p:w2"], Outcome.FAILED),
        "p:w3": ended(one["p:w3"], Outcome.CANCELLED),
    }
    failed = Case(settled(one["p"].task._replace(cancel_ms=5), ends(OK, FAILED, TaskState.CANCELLED)))
    moved, drops = act(failed, children, Retry("again"), NOW)
    assert {name: case.task.state for name, case in moved.items()} == {
        "p": TaskState.RUNNING,
        "p:w2": TaskState.PENDING,
        "p:w3": TaskState.PENDING,
    }
    assert {case.task.expires_ms for case in moved.values()} == {NOW + 60_000}
    task = moved["p"].task
    assert (task.cancel_ms, task.result, task.error, task.reason, drops) == (None, None, None, "tried again: again", ())


def test_a_parent_that_nobody_matched_is_cancelled_and_retried_like_any_task() -> None:
    asked = TaskSpec(kind="noop", target="all")
    alone = Case(new_task(asked, "p", via="http", site=None, pinned=None, now=1000))
    moved, _ = act(alone, {}, Cancel(), NOW)
    assert moved["p"].task.state is TaskState.CANCELLED
    moved, _ = act(moved["p"], {}, Retry(), NOW)
    assert moved["p"].task.state is TaskState.PENDING


def test_what_became_of_a_parent_is_said_of_its_children() -> None:
    one = family()
    with pytest.raises(NotOfParents, match="task p is for each matching worker: resolve one of its children") as caught:
        act(one.pop("p"), one, Resolve(OK), NOW)
    assert caught.value.problem.field == "target"
    assert "GET /api/tasks?parent=p" in caught.value.problem.expected
    assert caught.value.possible == ("cancel",)


def test_what_the_state_of_a_parent_does_not_allow_moves_no_child() -> None:
    one = family()
    with pytest.raises(NotPossible, match="p is running: retry is for one that is"):
        act(one.pop("p"), one, Retry(), NOW)
