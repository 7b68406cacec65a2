"""Tasks with their attempts, written and read back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import event

from broker.messages import TaskSpec
from hub.rules.life import assign
from hub.rules.task import Attempt, AttemptState, Candidate, Case, Task, TaskState, new_task
from hub.store import cases
from hub.store.schema import tasks
from tests.support.specs import JSON_VALUES, TEXTS

if TYPE_CHECKING:
    from sqlalchemy import Connection

IN_ONE_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)

TIMES = st.none() | st.integers(0, 2**53)
TASKS = st.builds(
    Task,
    id=st.uuids().map(str),
    kind=st.just("noop"),
    spec=st.just('{"kind":"noop"}'),
    digest=TEXTS,
    via=st.sampled_from(["http", "site", "worker"]),
    site=st.none() | TEXTS,
    pinned=st.none() | TEXTS,
    priority=st.integers(-100, 100),
    idempotent=st.booleans(),
    max_attempts=st.integers(1, 100),
    backoff_seconds=st.floats(0, 86400),
    created_ms=st.integers(0, 2**53),
    expires_ms=TIMES,
    reply=st.none() | st.just('{"topic":"edge/v1/replies/me"}'),
    state=st.sampled_from(TaskState),
    reason=st.none() | TEXTS,
    attempt=st.integers(0, 9),
    worker=st.none() | TEXTS,
    result=JSON_VALUES,
    error=st.none() | TEXTS,
    started_ms=TIMES,
    finished_ms=TIMES,
    not_before_ms=TIMES,
    offered_to=st.none() | st.dictionaries(TEXTS, st.builds(Candidate, TEXTS, TEXTS), max_size=2),
    cancel_ms=TIMES,
    target=st.sampled_from(["one", "all"]),
    parent=st.none() | TEXTS,
)
ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        number=st.integers(1, 9),
        worker=st.sampled_from(["w1", "w2"]),
        state=st.sampled_from(AttemptState),
        assigned_ms=TIMES,
        accepted_ms=TIMES,
        started_ms=TIMES,
        finished_ms=TIMES,
        result=JSON_VALUES,
        error=st.none() | TEXTS,
        progress=st.none() | st.floats(0, 1),
        progress_message=st.none() | TEXTS,
        superseded=st.booleans(),
        error_ms=TIMES,
    ),
    max_size=3,
).map(lambda attempts: {(one.number, one.worker): one for one in attempts})
CASES = st.builds(Case, TASKS, ATTEMPTS)


def pending(task_id: str) -> Case:
    return Case(new_task(TaskSpec(kind="noop"), task_id, via="http", site="site-a", pinned=None, now=1))


@IN_ONE_FILE
@given(CASES)
def test_a_case_is_read_as_it_was_written(connection: Connection, case: Case) -> None:
    with connection.begin_nested() as example:
        changes = cases.save(connection, {}, {case.task.id: case})
        assert cases.load(connection, [case.task.id]) == {case.task.id: case}
        assert changes == [cases.Change(None, case.task)]
        example.rollback()


@IN_ONE_FILE
@given(CASES, CASES)
def test_a_changed_case_is_read_as_it_was_written(connection: Connection, old: Case, other: Case) -> None:
    changing = ("state", "reason", "attempt", "worker", "result", "error")
    times = ("started_ms", "finished_ms", "not_before_ms", "offered_to")
    moved = old.task._replace(**{name: getattr(other.task, name) for name in (*changing, *times)})
    new = Case(moved, {**old.attempts, **other.attempts})
    with connection.begin_nested() as example:
        cases.save(connection, {}, {old.task.id: old})
        changes = cases.save(connection, {old.task.id: old}, {old.task.id: new})
        assert cases.load(connection, [old.task.id]) == {old.task.id: new}
        assert changes == [cases.Change(old.task, moved)]
        example.rollback()


def test_only_tasks_that_exist_are_loaded(connection: Connection) -> None:
    cases.save(connection, {}, {"t1": pending("t1")})
    assert set(cases.load(connection, ["t1", "t2"])) == {"t1"}
    assert cases.load(connection, []) == {}


def test_what_did_not_change_is_not_written(connection: Connection) -> None:
    before = {name: assign(pending(name), "w1", 5) for name in ("t1", "t2")}
    cases.save(connection, {}, before)
    written: list[str] = []
    event.listen(connection, "before_cursor_execute", lambda _c, _k, statement, *_: written.append(statement))
    assert cases.save(connection, before, dict(before)) == []
    assert written == []
    attempt = before["t1"].attempts[1, "w1"]._replace(progress=0.5)
    after = {**before, "t1": Case(before["t1"].task, {(1, "w1"): attempt})}
    assert cases.save(connection, before, after) == []
    assert len(written) == 1
    assert written[0].startswith("INSERT INTO attempts")


def test_a_thousand_tasks_take_few_statements(connection: Connection) -> None:
    many = {f"t{number}": assign(pending(f"t{number}"), "w1", 5) for number in range(1000)}
    executed: list[str] = []
    event.listen(connection, "before_cursor_execute", lambda _c, _k, statement, *_: executed.append(statement))
    cases.save(connection, {}, many)
    assert [statement.split(" (")[0] for statement in executed[-2:]] == ["INSERT INTO tasks", "INSERT INTO attempts"]
    assert len(executed) <= 3  # with the BEGIN
    assert cases.load(connection, many) == many


def test_an_offer_of_the_first_release_is_read_as_one_to_intakes_that_we_do_not_know(connection: Connection) -> None:
    cases.save(connection, {}, {"t1": pending("t1")})
    connection.execute(tasks.update().values(offered_to='{"w1":"a session"}'))
    assert cases.load(connection, ["t1"])["t1"].task.offered_to == {"w1": Candidate("", "")}
