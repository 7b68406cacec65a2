"""The queue of attempts that wait for a slot."""

from __future__ import annotations

import pytest

from broker.messages import TaskSpec
from broker.priority import AGE_MS
from edge_agent.rules.attempts import Held, Ref
from edge_agent.rules.waiting import Waiting


def held(task: str, *, priority: int = 0, at: int = 0) -> Held:
    return Held(ref=Ref(task, 1), digest="", spec=TaskSpec(kind="noop", priority=priority), accepted_at=at)


def queue(*attempts: Held) -> Waiting:
    waiting = Waiting()
    for one in attempts:
        waiting.add(one)
    return waiting


def drained(waiting: Waiting) -> list[str]:
    return [waiting.pop().ref.task for _ in range(len(waiting))]


def test_the_highest_priority_goes_first_then_the_oldest_then_the_first_come() -> None:
    waiting = queue(
        held("old", at=1),
        held("low", priority=-5),
        held("young", at=2),
        held("high", priority=5, at=9),
        held("twin", at=1),
    )
    assert drained(waiting) == ["high", "old", "twin", "young", "low"]


def test_what_has_waited_long_goes_before_what_is_a_little_more_urgent() -> None:
    assert drained(queue(held("urgent", priority=1, at=AGE_MS + 1), held("old"))) == ["old", "urgent"]


def test_what_was_taken_out_is_passed_over() -> None:
    waiting = queue(held("t1"), held("t2", at=1))
    assert waiting.remove(Ref("t1", 1)) is not None
    assert waiting.remove(Ref("t1", 1)) is None
    assert Ref("t1", 1) not in waiting
    assert waiting.pop().ref.task == "t2"
    with pytest.raises(IndexError):
        waiting.pop()


def test_all_can_be_taken_out() -> None:
    waiting = queue(held("t1"), held("t2"))
    assert [one.ref.task for one in waiting.clear()] == ["t1", "t2"]
    assert len(waiting) == 0
