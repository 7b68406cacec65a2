"""Which parents wait, and which of them must be looked at."""

from __future__ import annotations

from broker.messages import TaskSpec
from hub.rules.task import Task, new_task
from hub.rules.unexpanded import Unexpanded


def parent(name: str) -> Task:
    return new_task(TaskSpec(kind="noop", target="all"), name, via="http", site=None, pinned=None, now=1)


def test_a_parent_is_looked_at_when_it_comes_and_again_only_when_a_change_concerns_it() -> None:
    parents = Unexpanded()
    parents.add(parent("p1"))
    assert parents.is_unseen("p1")
    assert [task.id for task in parents.take()] == ["p1"]
    assert not parents.is_unseen("p1")
    parents.add(parent("p2"))
    assert [task.id for task in parents.take(lambda _: False)] == ["p2"]
    assert parents.take() == []
    assert [task.id for task in parents.take(lambda task: task.id == "p1")] == ["p1"]
    parents.add(parent("p3"))
    assert [task.id for task in parents.take(lambda _: True)] == ["p3", "p1", "p2"]


def test_a_parent_that_was_expanded_is_not_looked_at_again() -> None:
    parents = Unexpanded()
    for name in ("p1", "p2"):
        parents.add(parent(name))
    parents.remove("p1")
    parents.remove("p0")
    assert [task.id for task in parents.take(lambda _: True)] == ["p2"]
    assert ("p1" in parents, "p2" in parents, len(parents)) == (False, True, 1)
