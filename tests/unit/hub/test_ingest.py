"""Worker batches in: each event counts once, however often and however cut it comes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import select

from broker.messages import (
    AnyEvent,
    Batch,
    Dropped,
    FactObserved,
    Gap,
    IncidentRaised,
    Injected,
    InputProblem,
    Outcome,
    ReplyTo,
    TaskAccepted,
    TaskDeclined,
    TaskFinished,
    TaskProgress,
    TaskRejected,
    TaskSpec,
    TaskStarted,
    Via,
)
from hub.ingest import apply_batch
from hub.rules.placement import Placed
from hub.rules.reading import Reading, Source
from hub.rules.task import AttemptState, Candidate, TaskState, new_task
from hub.store import cases, tasks as store
from hub.store.reports import committed_through
from hub.store.schema import attempts, rejections, reports, tasks

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hub.ingest import Committed
    from hub.rules.task import Task

SPEC = TaskSpec(kind="noop")
W1 = Source("site-a", "w1", frozenset({"noop"}))
W2 = Source("site-a", "w2", frozenset({"noop"}))
NOW = 99


def submit(connection: Connection, task_id: str, *, worker: str | None = "w1") -> None:
    store.submit(connection, [new_task(SPEC, task_id, via="http", site="site-a", pinned=None, now=1)])
    if worker:
        store.assign(connection, [Placed(task_id, worker)], now=2)


def offer(connection: Connection, task_id: str, spec: TaskSpec, *workers: str) -> None:
    task = new_task(spec, task_id, via=Via.SITE, site="site-a", pinned=None, now=1)
    candidates = {worker: Candidate("intake", "st") for worker in workers}
    store.submit(connection, [store.offered(task, candidates)])


def apply(connection: Connection, first: int, *events: AnyEvent, source: Source = W1, stream: str = "st") -> Committed:
    return apply_batch(connection, source, Batch(stream=stream, first=first, events=events), NOW)


def read_of(done: Committed) -> Reading:
    assert done.reading is not None
    return done.reading


def accepted(task: str, injected: Injected | None = None, attempt: int = 1) -> TaskAccepted:
    return TaskAccepted(at=10, task=task, attempt=attempt, injected=injected)


def finished(task: str, outcome: Outcome = Outcome.SUCCEEDED, attempt: int = 1) -> TaskFinished:
    return TaskFinished(at=30, task=task, attempt=attempt, outcome=outcome, result={"of": task})


def declined(task: str, spec: TaskSpec = SPEC, *, reply: ReplyTo | None = None) -> TaskDeclined:
    return TaskDeclined(
        at=10, task=task, attempt=1, reason="not mine", injected=Injected(spec=spec, via=Via.SITE, reply=reply)
    )


def injected(spec: TaskSpec = SPEC, via: Via = Via.SITE) -> Injected:
    return Injected(spec=spec, via=via)


def task_of(connection: Connection, task: str) -> Task:
    return cases.load(connection, [task])[task].task


def everything(connection: Connection) -> list[list[Any]]:
    return [
        sorted(map(repr, connection.execute(select(*columns))))
        for columns in (
            [column for column in tasks.c if column.name != "seq"],
            list(attempts.c),
            [column for column in reports.c if column.name != "seq"],
            [column for column in rejections.c if column.name != "seq"],
        )
    ]


def test_a_batch_is_applied_in_order_and_moves_the_mark(connection: Connection) -> None:
    submit(connection, "t1")
    done = apply(connection, 1, accepted("t1"), TaskStarted(at=20, task="t1", attempt=1), finished("t1"))
    assert done.through == committed_through(connection, "w1", "st") == 3
    (change,) = done.changes
    assert (change.after.state, change.after.result, change.after.started_ms) == (TaskState.SUCCEEDED, {"of": "t1"}, 20)


def test_the_same_batch_again_changes_nothing(connection: Connection) -> None:
    submit(connection, "t1")
    apply(connection, 1, accepted("t1"), finished("t1"))
    before = everything(connection)
    done = apply(connection, 1, accepted("t1"), finished("t1"))
    assert (done.through, done.changes, done.reading) == (2, [], None)
    assert everything(connection) == before


def test_of_an_overlapping_batch_only_what_is_new_is_applied(connection: Connection) -> None:
    submit(connection, "t1")
    apply(connection, 1, accepted("t1"))
    done = apply(connection, 1, accepted("t1"), finished("t1"))
    assert (done.through, [change.after.state for change in done.changes]) == (2, [TaskState.SUCCEEDED])


def test_a_batch_that_leaves_a_hole_is_not_applied(connection: Connection) -> None:
    submit(connection, "t1")
    apply(connection, 1, accepted("t1"))
    done = apply(connection, 3, finished("t1"))
    assert (done.through, done.changes) == (1, [])
    assert task_of(connection, "t1").state is TaskState.RUNNING


def test_streams_and_workers_have_marks_of_their_own(connection: Connection) -> None:
    submit(connection, "t1")
    submit(connection, "t2", worker="w2")
    assert apply(connection, 1, accepted("t1")).through == 1
    assert apply(connection, 1, finished("t1"), stream="another").through == 1
    assert apply(connection, 1, accepted("t2"), source=W2).through == 1
    assert task_of(connection, "t1").state is TaskState.SUCCEEDED


def test_an_event_of_a_task_that_we_do_not_know_is_kept(connection: Connection) -> None:
    done = apply(connection, 1, finished("lost"))
    (row,) = connection.execute(select(reports))
    assert (done.through, done.changes) == (1, [])
    assert (row.worker, row.stream, row.stream_seq, row.type) == ("w1", "st", 1, "task.finished")
    assert json.loads(row.body)["result"] == {"of": "lost"}


def test_facts_and_incidents_are_kept_with_their_numbers(connection: Connection) -> None:
    fact = FactObserved(at=5, subject="host/nas-01", name="firmware", value={"v": [1, 2]})
    incident = IncidentRaised(at=6, fingerprint="f", incident="disk", summary="full")
    apply(connection, 1, fact, incident)
    assert [(row.stream_seq, row.type, row.at_ms) for row in connection.execute(select(reports))] == [
        (1, "fact.observed", 5),
        (2, "incident.raised", 6),
    ]


def test_a_rejection_is_kept_with_its_problems(connection: Connection) -> None:
    rejected = TaskRejected(
        at=5,
        topic="edge/v1/sites/site-a/tasks",
        reason="kind is missing",
        problems=(InputProblem(field="kind", value="", expected="a value"),),
        payload="{}",
        task="t9",
    )
    apply(connection, 1, rejected)
    (row,) = connection.execute(select(rejections))
    assert (row.at_ms, row.site, row.reported_by, row.task, row.payload) == (5, "site-a", "w1", "t9", "{}")
    assert json.loads(row.problems) == [
        {"field": "kind", "value": "", "expected": "a value", "message": "kind is missing: expected a value"}
    ]


# -- tasks that the hub did not assign ------------------------------------------------------------------------------


def test_a_task_that_was_injected_while_the_hub_was_away_is_learnt_with_its_result(connection: Connection) -> None:
    done = apply(connection, 1, accepted("t1", injected()), finished("t1"))
    (change,) = done.changes
    task = task_of(connection, "t1")
    assert change.before is None
    assert (task.state, task.via, task.site, task.pinned, task.created_ms) == (
        TaskState.SUCCEEDED,
        "site",
        "site-a",
        None,
        10,
    )


@pytest.mark.parametrize(("via", "pinned"), [(Via.SITE, None), (Via.WORKER, "w1"), (Via.SCHEDULE, "w1")])
def test_only_a_sites_task_may_go_elsewhere(connection: Connection, via: Via, pinned: str | None) -> None:
    apply(connection, 1, accepted("t1", injected(via=via)))
    assert (task_of(connection, "t1").via, task_of(connection, "t1").pinned) == (via, pinned)


def test_a_task_that_a_worker_declined_is_the_hubs_to_place(connection: Connection) -> None:
    done = apply(connection, 1, declined("t1"))
    task = task_of(connection, "t1")
    assert read_of(done).declined == [(1, "t1")]
    assert (task.state, task.attempt, task.reason) == (TaskState.PENDING, 1, "w1 declined it: not mine")


@pytest.mark.parametrize("dropped", [Dropped.RESULTS, Dropped.UNREADABLE, Dropped.EVERYTHING])
def test_a_worker_that_dropped_what_it_had_to_tell_may_have_run_what_it_was_offered(
    connection: Connection, dropped: Dropped
) -> None:
    offer(connection, "once", TaskSpec(kind="noop", idempotent=False), "w1", "w2")
    offer(connection, "again", SPEC, "w1", "w2")
    offer(connection, "elsewhere", TaskSpec(kind="noop", idempotent=False), "w2")
    apply(connection, 1, Gap(at=10, dropped=dropped, count=2, reason="the journal was full"))
    task = task_of(connection, "once")
    assert (task.state, task.offered_to) == (TaskState.UNKNOWN, None)
    assert task.reason == "w1 may have had it, and has dropped what it had to tell"
    assert task_of(connection, "again").state is task_of(connection, "elsewhere").state is TaskState.PENDING


@pytest.mark.parametrize("dropped", [Dropped.PROGRESS, Dropped.FACTS, Dropped.INCIDENTS, Dropped.RECENT])
def test_dropped_progress_hides_no_task_and_a_crash_of_gentle_mode_neither(
    connection: Connection, dropped: Dropped
) -> None:
    offer(connection, "once", TaskSpec(kind="noop", idempotent=False), "w1")
    apply(connection, 1, Gap(at=10, dropped=dropped, reason="told"))
    assert task_of(connection, "once").state is TaskState.PENDING


def test_what_a_worker_took_behind_its_gap_is_known_again(connection: Connection) -> None:
    spec = TaskSpec(kind="noop", idempotent=False)
    offer(connection, "once", spec, "w1", "w2")
    gap = Gap(at=10, dropped=Dropped.RESULTS, count=2, reason="the journal was full")
    apply(connection, 1, gap, accepted("once", injected(spec)))
    assert task_of(connection, "once").state is TaskState.RUNNING


def test_a_declined_task_that_nobody_at_all_can_run_is_rejected_and_answered(connection: Connection) -> None:
    reply = ReplyTo(topic="edge/v1/replies/me")
    done = apply(connection, 1, declined("t1", TaskSpec(kind="nonsense"), reply=reply))
    ((to, answer),) = read_of(done).refused
    (row,) = connection.execute(select(rejections))
    assert cases.load(connection, ["t1"]) == {}
    assert (to, answer.task, answer.outcome) == (reply, "t1", "rejected")
    assert 'kind is "nonsense"' in row.reason
    assert json.loads(row.payload)["kind"] == "nonsense"


def test_a_task_that_is_accepted_is_taken_though_its_kind_is_new(connection: Connection) -> None:
    apply(connection, 1, accepted("t1", injected(TaskSpec(kind="brand.new"))))
    assert task_of(connection, "t1").state is TaskState.RUNNING


def test_a_clashing_id_is_refused_and_its_worker_told_to_stop(connection: Connection) -> None:
    submit(connection, "t1")
    other = injected(TaskSpec(kind="noop", params={"n": 2}))
    done = apply(connection, 1, accepted("t1", other), finished("t1"), source=W2)
    (drop,) = read_of(done).drops
    (row,) = connection.execute(select(rejections))
    assert (drop.worker, drop.task, drop.attempt) == ("w2", "t1", 1)
    assert (row.reported_by, row.task) == ("w2", "t1")
    assert row.reason.startswith("clashing id")
    assert task_of(connection, "t1").state is TaskState.ASSIGNED
    assert cases.load(connection, ["t1"])["t1"].attempts[1, "w2"].state is AttemptState.REFUSED


def test_the_same_task_by_site_topic_from_two_workers_is_one(connection: Connection) -> None:
    apply(connection, 1, accepted("t1", injected()))
    done = apply(connection, 1, accepted("t1", injected()), source=W2)
    (drop,) = read_of(done).drops
    assert (drop.worker, drop.attempt) == ("w2", 1)
    assert task_of(connection, "t1").worker == "w1"
    assert connection.execute(select(rejections)).all() == []


def test_a_superseded_attempt_is_dropped(connection: Connection) -> None:
    submit(connection, "t1", worker=None)
    apply(connection, 1, accepted("t1", attempt=2), source=W2)
    (drop,) = read_of(apply(connection, 1, accepted("t1", attempt=1))).drops
    assert (drop.worker, drop.attempt) == ("w1", 1)


# -- whatever is sent again, however it is cut -----------------------------------------------------------------------


def _journal() -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for number in range(3):
        task = f"t{number}"
        events += [
            accepted(task),
            TaskProgress(at=15, task=task, attempt=1, fraction=0.5),
            finished(task, Outcome.FAILED if number else Outcome.SUCCEEDED),
        ]
    events += [accepted("own", injected()), finished("own"), finished("stranger")]
    events.append(TaskRejected(at=5, topic="t", reason="r", payload="p"))
    events.append(FactObserved(at=5, subject="s", name="n", value=1))
    return events


JOURNAL = _journal()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, len(JOURNAL)), st.integers(1, len(JOURNAL))), max_size=12),
    st.integers(1, 4),
)
def test_replays_splits_overlaps_and_holes_change_nothing(
    connection: Connection, cuts: list[tuple[int, int]], size: int
) -> None:
    def play(batches: list[tuple[int, int]]) -> list[list[Any]]:
        nested = connection.begin_nested()
        for number in range(3):
            submit(connection, f"t{number}")
        for first, length in batches:
            events = JOURNAL[first - 1 : first - 1 + length]
            before = committed_through(connection, "w1", "st")
            done = apply(connection, first, *events)
            last = first + len(events) - 1
            assert done.through == (max(before, last) if first <= before + 1 else before)
        state = everything(connection)
        nested.rollback()
        return state

    straight = [(first, size) for first in range(1, len(JOURNAL) + 1, size)]
    assert play([*cuts, *straight, *cuts]) == play([(1, len(JOURNAL))])
