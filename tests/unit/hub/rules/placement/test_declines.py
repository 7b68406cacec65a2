"""Who has declined what."""

from __future__ import annotations

from hub.rules.placement.declines import Declines


def test_a_task_is_kept_from_the_session_that_declined_it() -> None:
    declines = Declines()
    declines.meet("w1", "s1")
    declines.add("t1", "w1", "s1")
    assert declines.kept_from("t1") == {"w1"}
    assert declines.kept_from("t2") == frozenset()


def test_the_next_session_may_have_it() -> None:
    declines = Declines()
    declines.meet("w1", "s1")
    declines.add("t1", "w1", "s1")
    assert declines.meet("w1", "s1") == []
    assert declines.meet("w1", "s2") == ["t1"]
    assert declines.kept_from("t1") == frozenset()


def test_what_an_earlier_session_has_declined_is_kept_from_nobody() -> None:
    declines = Declines()
    declines.meet("w1", "s2")
    declines.add("t1", "w1", "s1")
    assert declines.kept_from("t1") == frozenset()


def test_nothing_is_left_of_a_task_that_has_ended() -> None:
    declines = Declines()
    declines.meet("w1", "s1")
    declines.add("t1", "w1", "s1")
    declines.forget("t1")
    declines.forget("t1")
    assert declines.meet("w1", "s2") == []
    assert declines.kept_from("t1") == frozenset()
