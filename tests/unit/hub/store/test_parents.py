"""Parents and children in the database: each transaction that moves children leaves their parents as they must be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import event, text

from broker.messages import Outcome, TaskFinished, TaskSpec
from hub.errors import NotPossible
from hub.rules import life
from hub.rules.actions import Cancel, Resolve, Retry
from hub.rules.callers import ANYBODY
from hub.rules.children import Member, child_id
from hub.rules.task import ENDED, Case, Task, TaskState, new_task
from hub.store import cases, tasks as store
from hub.store.actions import deeds_of, do
from hub.store.expansion import expand
from hub.store.parents import children_of, count_children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from hub.store.cases import Change

NOW = 1000
FAMILY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def new(name: str, target: str = "all", **spec: Any) -> Task:  # noqa: ANN401
    asked = TaskSpec.model_validate({"kind": "noop", "target": target, **spec})
    return new_task(asked, name, via="http", site=None, pinned=None, now=NOW)


def members(count: int) -> list[Member]:
    return [Member(f"w{number}", "site-a") for number in range(count)]


def make_family(connection: Connection, count: int, name: str = "p", **spec: Any) -> list[str]:  # noqa: ANN401
    store.submit(connection, [new(name, **spec)])
    _, made = expand(connection, {name: members(count)}, NOW + 1)
    assert made == {name: count}
    return children_of(connection, name)


def task(connection: Connection, name: str) -> Task:
    return cases.load(connection, [name])[name].task


def end(connection: Connection, *ids: str, outcome: Outcome = Outcome.SUCCEEDED, at: int = 5000) -> list[Change]:
    """End tasks, as a batch does that tells it, in whatever state they are."""
    before = cases.load(connection, ids)
    after = {}
    for name, case in before.items():
        worker = case.task.pinned or ""
        number = life.last_number(case) + 1
        told = TaskFinished(at=at, task=name, attempt=number, outcome=outcome)
        after[name] = life.on_finished(case, told, worker, at)[0]
    return cases.save(connection, before, after)


def test_a_parent_runs_from_the_transaction_that_makes_its_children(connection: Connection) -> None:
    store.submit(connection, [new("p", requires={"gpu": True})])
    changes, _ = expand(connection, {"p": members(2)}, NOW + 1)
    assert [change.after.id for change in changes] == ["p", "p:w0", "p:w1"]
    parent, child = task(connection, "p"), task(connection, "p:w1")
    assert (parent.state, parent.started_ms) == (TaskState.RUNNING, NOW + 1)
    assert (child.state, child.parent, child.pinned, child.site) == (TaskState.PENDING, "p", "w1", "site-a")
    assert TaskSpec.model_validate_json(child.spec) == TaskSpec(kind="noop", requires={"gpu": True})


def test_a_parent_is_expanded_once_and_not_when_it_has_ended(connection: Connection) -> None:
    make_family(connection, 2)
    assert expand(connection, {"p": members(3)}, NOW + 9) == ([], {})
    store.submit(connection, [new("q")])
    do(connection, "q", Cancel(), NOW, ANYBODY)
    assert expand(connection, {"q": members(3), "nosuch": members(1)}, NOW + 9) == ([], {})
    assert count_children(connection, "q") == {}


def test_a_child_leaves_the_id_of_another_task_alone(connection: Connection) -> None:
    store.submit(connection, [new("p:w1", target="one"), new(child_id("p", "w1", 1), target="one"), new("p")])
    before = {name: task(connection, name) for name in ("p:w1", child_id("p", "w1", 1))}
    expand(connection, {"p": members(3)}, NOW + 1)
    assert children_of(connection, "p") == ["p:w0", "p:w2", child_id("p", "w1", 2)]
    assert {name: task(connection, name) for name in before} == before
    end(connection, *children_of(connection, "p"))
    assert task(connection, "p").result == {
        "succeeded": 3,
        "children": {"w0": "succeeded", "w1": "succeeded", "w2": "succeeded"},
    }


def test_the_last_child_ends_its_parent_in_the_same_transaction(connection: Connection) -> None:
    first, second = make_family(connection, 2)
    assert [change.after.id for change in end(connection, first, at=5000)] == [first]
    _, (before, after) = end(connection, second, outcome=Outcome.FAILED, at=7000)
    assert before is not None
    assert (before.state, after.state, after.finished_ms) == (TaskState.RUNNING, TaskState.FAILED, 7000)
    assert task(connection, "p") == after


def test_children_of_several_parents_that_end_together_end_each_parent_once(connection: Connection) -> None:
    both = [*make_family(connection, 2, "p"), *make_family(connection, 2, "q")]
    ended = Counter(change.after.id for change in end(connection, *both))
    assert ended == Counter([*both, "p", "q"])


def test_an_unknown_child_keeps_its_parent_open_until_somebody_says_what_became_of_it(connection: Connection) -> None:
    first, second = make_family(connection, 2, idempotent=False)
    before = cases.load(connection, [first])
    assigned = life.assign(before[first], "w0", 5)
    cases.save(connection, before, {first: life.on_lost(assigned, 1, "w0 is offline", 6)})
    end(connection, second)
    assert (task(connection, first).state, task(connection, "p").state) == (TaskState.UNKNOWN, TaskState.RUNNING)
    do(connection, first, Resolve(TaskState.SUCCEEDED), 9000, ANYBODY)
    assert task(connection, "p").state is TaskState.SUCCEEDED


def test_a_parent_follows_a_child_that_is_retried_and_then_ends_otherwise(connection: Connection) -> None:
    first, second = make_family(connection, 2)
    end(connection, first)
    end(connection, second, outcome=Outcome.FAILED)
    done = do(connection, second, Retry(), 6000, ANYBODY)
    assert [(change.after.id, change.after.state.value) for change in done.changes] == [
        (second, "pending"),
        ("p", "running"),
    ]
    end(connection, second, at=8000)
    parent = task(connection, "p")
    assert (parent.state, parent.error, parent.finished_ms) == (TaskState.SUCCEEDED, None, 8000)


def test_a_late_success_counts_for_the_parent_too(connection: Connection) -> None:
    first, second = make_family(connection, 2)
    before = cases.load(connection, [second])
    end(connection, first)
    cases.save(connection, before, {second: life.on_expired(before[second], 6000, None)})
    assert task(connection, "p").error == "1 of 2 did not succeed: 1 expired"
    end(connection, second, at=7000)
    assert task(connection, "p").state is TaskState.SUCCEEDED


def test_to_cancel_a_parent_that_nobody_began_ends_all_of_it_at_once_and_each_says_why(connection: Connection) -> None:
    children = make_family(connection, 3)
    do(connection, "p", Cancel("no need"), 6000, ANYBODY)
    assert count_children(connection, "p") == {TaskState.CANCELLED: 3}
    parent = task(connection, "p")
    assert (parent.state, parent.error) == (TaskState.CANCELLED, "cancelled; 3 of 3 did not succeed: 3 cancelled")
    assert {(deed.verb, deed.said["reason"]) for name in children for deed in deeds_of(connection, name)} == {
        ("cancel", "no need")
    }
    do(connection, "p", Retry(), 7000, ANYBODY)
    assert count_children(connection, "p") == {TaskState.PENDING: 3}
    assert task(connection, "p").state is TaskState.RUNNING


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["end", "fail", "expire", "cancel", "retry", "lose", "cancel parent", "retry parent"]),
        st.sets(st.integers(0, 3), min_size=1),
    ),
    max_size=12,
)


@FAMILY
@given(MOVES)
def test_whatever_becomes_of_children_their_parent_is_as_they_are(
    connection: Connection, moves: list[tuple[str, set[int]]]
) -> None:
    with connection.begin_nested() as example:
        children = make_family(connection, 4, idempotent=False)
        for number, (move, which) in enumerate(moves):
            _move(connection, move, [children[one] for one in which], 5000 + number)
            states = [task(connection, name).state for name in children]
            parent = task(connection, "p")
            if not set(states) <= ENDED:
                assert (parent.state, parent.finished_ms, parent.result) == (TaskState.RUNNING, None, None)
            elif set(states) == {TaskState.SUCCEEDED}:
                assert (parent.state, parent.error) == (TaskState.SUCCEEDED, None)
            else:
                assert parent.state is (TaskState.FAILED if parent.cancel_ms is None else TaskState.CANCELLED)
                assert isinstance(parent.result, dict)
                named = parent.result["children"]
                assert named == {f"w{one}": state.value for one, state in enumerate(states)}
        example.rollback()


def _move(connection: Connection, move: str, ids: list[str], at: int) -> None:
    if move in {"end", "fail"}:
        end(connection, *ids, outcome=Outcome.SUCCEEDED if move == "end" else Outcome.FAILED, at=at)
    elif move in {"expire", "lose"}:
        before = cases.load(connection, ids)
        cases.save(connection, before, {name: _expired_or_lost(case, move, at) for name, case in before.items()})
    else:
        verb, _, parent = move.partition(" ")
        action = Cancel() if verb == "cancel" else Retry()
        for name in ["p"] if parent else ids:
            try:
                do(connection, name, action, at, ANYBODY)
            except NotPossible:
                continue


def _expired_or_lost(case: Case, move: str, at: int) -> Case:
    if move == "expire" or case.task.state is not TaskState.PENDING:
        return life.on_expired(case, at, None)
    assigned = life.assign(case, case.task.pinned or "", at)
    return life.on_lost(assigned, assigned.task.attempt, "offline", at)


@pytest.fixture
def steps(connection: Connection) -> Iterator[Any]:
    """Count what SQLite's virtual machine does, in hundreds of steps."""
    raw: Any = connection.connection.dbapi_connection
    counted = Counter[str]()

    def count() -> int:
        counted["steps"] += 1
        return 0

    raw.set_progress_handler(count, 100)
    yield counted
    raw.set_progress_handler(None, 0)


def test_the_end_of_a_child_costs_the_same_however_many_there_are(connection: Connection, steps: Counter[str]) -> None:
    cost = {}
    for count in (10, 2000):
        children = make_family(connection, count, f"p{count}")
        end(connection, *children[: count // 2])
        steps.clear()
        end(connection, children[count // 2])
        cost[count] = steps["steps"]
    assert cost[2000] <= 2 * cost[10] + 1, cost


def test_what_has_no_parent_asks_the_database_nothing_more(connection: Connection) -> None:
    store.submit(connection, [new("t1", target="one"), new("t2", target="one")])
    asked: list[str] = []
    listener = lambda _c, _k, statement, *_: asked.append(statement)  # noqa: E731
    event.listen(connection, "before_cursor_execute", listener)
    end(connection, "t1", "t2")
    event.remove(connection, "before_cursor_execute", listener)
    assert len(asked) == 4, asked  # tasks and attempts, read and written


@pytest.mark.parametrize("index", ["tasks_open_by_parent", "tasks_by_parent"])
def test_children_are_found_by_an_index(connection: Connection, index: str) -> None:
    is_open = "AND state IN ('pending', 'assigned', 'running', 'unknown') LIMIT 1"
    rest = is_open if index == "tasks_open_by_parent" else "ORDER BY seq DESC LIMIT 51"
    plan = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT seq FROM tasks WHERE parent = 'p' {rest}")).all()  # noqa: S608
    assert [index in row[-1] for row in plan] == [True], plan
