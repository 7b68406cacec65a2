"""Where each unended task waits, and what falls due."""

from __future__ import annotations

from broker.messages import Bound, TaskSpec
from hub.rules import waiting as waiting_rules
from hub.rules.life import assign
from hub.rules.placement import Limit
from hub.rules.task import Candidate, Case, Task, TaskState, new_task
from hub.rules.waiting import Waiting, shape_of

TIMEOUT = 1000


def pending(task_id: str = "t1", *, now: int = 0, **spec: object) -> Task:
    asked = TaskSpec.model_validate({"kind": "noop", **spec})
    return new_task(asked, task_id, via="http", site="site-a", pinned=None, now=now)


def assigned(task_id: str = "t1") -> Task:
    return assign(Case(pending(task_id)), "w1", 0).task


def test_a_pending_task_waits_in_the_backlog() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending(), 0)
    assert "t1" in waiting.backlog
    waiting.take_out("t1")
    assert "t1" not in waiting.backlog


def test_an_assigned_task_is_a_lease_that_must_be_accepted() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(assigned(), 0)
    assert [one.task for one in waiting.leases.of("w1")] == ["t1"]
    assert waiting.due(TIMEOUT - 1).unaccepted == []
    (due,) = waiting.due(TIMEOUT).unaccepted
    assert (due.task, due.attempt, due.worker, due.idempotent) == ("t1", 1, "w1", True)


def test_a_running_task_is_a_lease_that_was_accepted() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(assigned()._replace(state=TaskState.RUNNING), 0)
    assert waiting.due(10**9).unaccepted == []
    assert waiting.leases.count("w1") == 1


def test_a_task_on_offer_is_judged_once_per_timeout() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending()._replace(offered_to={"w1": Candidate("i1", "st")}), 0)
    assert "t1" not in waiting.backlog
    assert waiting.offer("t1") is not None
    assert waiting.due(TIMEOUT - 1).offers == []
    assert [one.task.id for one in waiting.due(TIMEOUT).offers] == ["t1"]
    assert waiting.due(TIMEOUT + 1).offers == []
    assert [one.task.id for one in waiting.due(2 * TIMEOUT).offers] == ["t1"]


def test_the_next_try_waits_for_its_time_and_then_in_the_backlog() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending()._replace(not_before_ms=500), 0)
    assert waiting.is_delayed("t1")
    assert "t1" not in waiting.backlog
    waiting.due(499)
    assert waiting.is_delayed("t1")
    waiting.due(500)
    assert not waiting.is_delayed("t1")
    assert "t1" in waiting.backlog


def test_a_next_try_that_is_due_already_waits_in_the_backlog() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending()._replace(not_before_ms=500), 500)
    assert "t1" in waiting.backlog


def test_a_delayed_task_that_was_taken_out_does_not_come_back() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending()._replace(not_before_ms=500), 0)
    waiting.take_out("t1")
    waiting.due(500)
    assert "t1" not in waiting.backlog


def test_what_expires_falls_due_wherever_it_waits() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending("t1", expires_in_seconds=1), 0)
    waiting.put(pending("t2", expires_in_seconds=1)._replace(not_before_ms=5000), 0)
    waiting.put(pending("t3", expires_in_seconds=1)._replace(offered_to={"w1": Candidate("i1", "st")}), 0)
    waiting.put(pending("t4", expires_in_seconds=2), 0)
    assert waiting.due(999).expired == []
    assert sorted(task.id for task in waiting.due(1000).expired) == ["t1", "t2", "t3"]
    assert [task.id for task in waiting.due(2000).expired] == ["t4"]


def test_what_ended_before_it_expired_does_not_expire() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending("t1", expires_in_seconds=1), 0)
    waiting.take_out("t1")
    assert waiting.due(1000).expired == []


def test_a_task_that_is_put_back_after_its_time_expires_at_once() -> None:
    waiting = Waiting(TIMEOUT)
    task = pending("t1", expires_in_seconds=1)
    waiting.put(task, 0)
    waiting.take_out("t1")
    waiting.due(1000)
    waiting.put(task, 5000)
    assert [one.id for one in waiting.due(5000).expired] == ["t1"]


def test_an_ended_or_unknown_task_waits_nowhere() -> None:
    waiting = Waiting(TIMEOUT)
    for state in (TaskState.SUCCEEDED, TaskState.EXPIRED, TaskState.UNKNOWN):
        waiting.put(assigned()._replace(state=state), 0)
    assert waiting.leases.count("w1") == 0
    assert len(waiting.backlog) == 0


def test_the_shape_of_a_task_is_all_that_placement_asks_of_it() -> None:
    task = pending(requires={"docker": True, "memory_mb": {"min": 512}}, params={"n": 1}, priority=3)
    twin = pending("t2", requires={"docker": True, "memory_mb": {"min": 512}}, params={"n": 2})
    assert shape_of(task) == shape_of(twin)
    assert shape_of(task).requires == {"docker": True, "memory_mb": Bound(min=512)}
    assert shape_of(task) != shape_of(pending(requires={"docker": True}))
    assert shape_of(task) != shape_of(task._replace(site="site-b"))
    assert shape_of(task) != shape_of(task._replace(pinned="w1"))


def test_labels_are_asked_for_where_a_limit_looks_at_them() -> None:
    task = pending(labels={"job": "backup", "team": "infra"})
    assert shape_of(task).labels == ()
    limited = Waiting(TIMEOUT, [Limit(labels={"job": "backup"}, max=1)])
    assert limited.shape(task).labels == (("job", "backup"),)
    assert limited.shape(task) == limited.shape(pending(labels={"job": "backup", "team": "other"}))


def test_an_unknown_task_asks_after_its_worker() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(assigned()._replace(state=TaskState.UNKNOWN), 0)
    assert waiting.is_asked_after("w1")
    waiting.take_out("t1")
    assert not waiting.is_asked_after("w1")


def test_a_task_that_is_followed_keeps_what_is_known_of_its_lease() -> None:
    waiting = Waiting(TIMEOUT)
    running = assigned()._replace(state=TaskState.RUNNING)
    waiting.put(running, 0)
    waiting.leases.mark("w1", "st", 7)
    waiting.follow(running._replace(started_ms=5), 10)
    lease = waiting.leases.get("t1")
    assert lease is not None
    assert lease.mark == ("st", 7)
    waiting.follow(assigned()._replace(attempt=2), 20)
    again = waiting.leases.get("t1")
    assert again is not None
    assert (again.mark, again.accepted) == (None, False)
    waiting.follow(running._replace(state=TaskState.SUCCEEDED), 30)
    assert waiting.leases.get("t1") is None


def test_what_a_worker_has_named_stays_so_when_the_task_is_cancelled() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(assigned(), 0)
    waiting.leases.name("w1", {("t1", 1)}, ("st", 7))
    waiting.follow(assigned()._replace(cancel_ms=5), 10)
    assert waiting.due(10 * TIMEOUT).unaccepted == []


def test_an_offer_that_a_worker_holds_has_its_time_again() -> None:
    waiting = Waiting(TIMEOUT)
    for task in ("t1", "t2"):
        waiting.put(pending(task)._replace(attempt=1, offered_to={"w1": Candidate("i1", "st")}), 0)
    waiting.keep_offers([("t1", 1), ("t2", 2)], 700)
    assert [one.task.id for one in waiting.due(TIMEOUT).offers] == ["t2"]
    assert [one.task.id for one in waiting.due(TIMEOUT + 700).offers] == ["t1"]


def test_what_was_judged_in_vain_is_judged_again_when_its_worker_has_spoken() -> None:
    waiting = Waiting(TIMEOUT)
    waiting.put(pending()._replace(offered_to={"w1": Candidate("i1", "st")}), 0)
    waiting.hasten_offers("w1", 100)  # its time is not up yet
    assert waiting.due(200).offers == []
    waiting.due(TIMEOUT)
    waiting.hasten_offers("w2", TIMEOUT + 100)
    assert waiting.due(TIMEOUT + 100).offers == []
    waiting.hasten_offers("w1", TIMEOUT + 200)
    assert [one.task.id for one in waiting.due(TIMEOUT + 200).offers] == ["t1"]


def test_long_specs_are_read_alike_and_are_not_kept_in_memory() -> None:
    needs = {"gpu": True, "memory_mb": Bound(min=1)}
    short, long = pending(requires=needs), pending(requires=needs, params={"script": "x" * 100_000})
    assert shape_of(long) == shape_of(short)
    assert shape_of(long).requires == shape_of(short).requires
    before = waiting_rules._shape.cache_info().currsize + waiting_rules._asked.cache_info().currsize  # noqa: SLF001
    for number in range(50):
        shape_of(pending(params={"script": f"{number}" * 100_000}))
    after = waiting_rules._shape.cache_info().currsize + waiting_rules._asked.cache_info().currsize  # noqa: SLF001
    assert after == before


def test_children_of_a_task_with_a_long_spec_share_the_reading_of_it() -> None:
    one = pending(params={"script": "y" * 100_000})
    misses = waiting_rules._asked_at_length.cache_info().misses  # noqa: SLF001
    for number in range(100):
        shape_of(one._replace(pinned=f"w{number}"))
    assert waiting_rules._asked_at_length.cache_info().misses == misses + 1  # noqa: SLF001
