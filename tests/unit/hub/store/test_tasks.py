"""Pieces of work that put tasks in and move them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from broker.messages import Assignment, ReplyTo, TaskSpec
from broker.reading import read_worker_tasks
from hub.rules import life, offers
from hub.rules.placement import Placed
from hub.rules.task import Candidate, Task, TaskState, new_task
from hub.store import cases, queries, tasks

if TYPE_CHECKING:
    from sqlalchemy import Connection


def task(task_id: str = "t1", *, site: str = "site-a", reply: ReplyTo | None = None, **spec: object) -> Task:
    asked = TaskSpec.model_validate({"kind": "noop", **spec})
    return new_task(asked, task_id, via="http", site=site, pinned=None, now=1, reply=reply)


def test_a_new_task_is_created(connection: Connection) -> None:
    (result,), (change,) = tasks.submit(connection, [task()])
    assert (result.created, result.clash) == (True, False)
    assert change == cases.Change(None, result.task)


def test_a_repeated_id_changes_nothing_and_answers_with_the_task_as_it_stands(connection: Connection) -> None:
    tasks.submit(connection, [task()])
    tasks.assign(connection, [Placed("t1", "w1")], now=5)
    (result,), changes = tasks.submit(connection, [task()])
    assert (result.created, result.clash, result.task.state) == (False, False, TaskState.ASSIGNED)
    assert changes == []


def test_an_id_that_is_another_tasks_clashes(connection: Connection) -> None:
    tasks.submit(connection, [task()])
    for other in (task(params={"n": 1}), task(site="site-b"), task(priority=1)):
        (result,), changes = tasks.submit(connection, [other])
        assert (result.created, result.clash, changes) == (False, True, [])


def test_within_one_submission_the_first_of_an_id_counts(connection: Connection) -> None:
    results, changes = tasks.submit(connection, [task(), task(), task(params={"n": 1}), task("t2")])
    assert [(one.created, one.clash) for one in results] == [
        (True, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    assert [change.after.id for change in changes] == ["t1", "t2"]


def test_what_is_sent_is_the_task_with_its_attempt(connection: Connection) -> None:
    reply = ReplyTo(topic="edge/v1/replies/me", correlation="aGk=")
    tasks.submit(connection, [task(params={"n": [1, None]}, priority=3, reply=reply)])
    (change,), (sent,) = tasks.assign(connection, [Placed("t1", "w1")], now=5)
    assert change.after.state is TaskState.ASSIGNED
    assert sent.worker == "w1"
    assert read_worker_tasks(sent.payload.encode()) == [
        Assignment(kind="noop", id="t1", attempt=1, params={"n": [1, None]}, priority=3, reply=reply)
    ]


def test_only_what_is_still_pending_is_assigned(connection: Connection) -> None:
    tasks.submit(connection, [task("t1"), task("t2")])
    tasks.assign(connection, [Placed("t1", "w1")], now=5)
    changes, sent = tasks.assign(connection, [Placed("t1", "w2"), Placed("t2", "w2"), Placed("t3", "w2")], now=6)
    assert [change.after.id for change in changes] == ["t2"]
    assert [json.loads(one.payload)["id"] for one in sent] == ["t2"]


def test_again_is_the_same_attempt(connection: Connection) -> None:
    tasks.submit(connection, [task("t1"), task("t2")])
    _, (sent,) = tasks.assign(connection, [Placed("t1", "w1")], now=5)
    assert tasks.again(connection, ["t1", "t2", "t3"]) == [sent]


def test_a_rule_moves_a_task(connection: Connection) -> None:
    tasks.submit(connection, [task("t1"), task("t2")])
    (change,) = tasks.move(connection, {"t1": partial(life.on_expired, now=9, why=None), "t3": lambda case: case})
    assert (change.after.id, change.after.state) == ("t1", TaskState.EXPIRED)


def test_an_offer_is_withdrawn_once(connection: Connection) -> None:
    candidates = {"w1": Candidate("i1", "st")}
    offered = tasks.offered(task(), candidates)
    assert (offered.attempt, offered.offered_to) == (1, candidates)
    tasks.submit(connection, [offered])
    (change,) = tasks.move(connection, {"t1": offers.withdraw})
    assert change.after == offered._replace(offered_to=None)
    assert tasks.move(connection, {"t1": offers.withdraw}) == []
    (assigned,), _ = tasks.assign(connection, [Placed("t1", "w1")], now=5)
    assert assigned.after.attempt == 2


def test_a_hub_takes_up_what_has_not_ended_oldest_first(connection: Connection) -> None:
    tasks.submit(connection, [task(f"t{number}") for number in range(4)])
    tasks.move(connection, {"t1": partial(life.on_expired, now=9, why=None)})
    tasks.assign(connection, [Placed("t2", "w1")], now=5)
    assert [one.id for one in tasks.unended(connection)] == ["t0", "t2", "t3"]


def test_lists_are_newest_first_and_paged_without_gaps_or_repeats(connection: Connection) -> None:
    tasks.submit(connection, [task(f"t{number}", site=f"site-{number % 2}") for number in range(7)])
    seen: list[str] = []
    cursor: int | None = None
    while True:
        page = queries.list_tasks(connection, queries.TaskFilter(), limit=3, cursor=cursor)
        seen += [one.id for one in page.items]
        tasks.submit(connection, [task(f"later-{cursor}")])  # what comes in between does not shift the pages
        cursor = page.next
        if cursor is None:
            break
    assert seen == ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]
    even = queries.list_tasks(connection, queries.TaskFilter(site="site-0"), limit=4, cursor=None)
    assert ([one.id for one in even.items], even.next) == (["t6", "t4", "t2", "t0"], None)


def test_unended_tasks_are_counted_by_site(connection: Connection) -> None:
    tasks.submit(connection, [task("t1"), task("t2"), task("t3", site="site-b"), task("t4", site="site-b")])
    tasks.move(connection, {"t4": partial(life.on_expired, now=9, why=None)})
    assert queries.count_by_site(connection) == {"site-a": {"pending": 2}, "site-b": {"pending": 1}}
