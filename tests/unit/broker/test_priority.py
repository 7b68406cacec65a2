"""Which of two tasks that wait goes first."""

from __future__ import annotations

from hypothesis import given, strategies as st

from broker.priority import AGE_MS, rank

PRIORITIES = st.integers(-100, 100)
TIMES = st.integers(0, 10**12)


@given(PRIORITIES, TIMES, TIMES)
def test_of_one_priority_the_older_goes_first(priority: int, one_ms: int, other_ms: int) -> None:
    assert (rank(priority, one_ms) < rank(priority, other_ms)) == (one_ms < other_ms)


@given(PRIORITIES, PRIORITIES, TIMES)
def test_of_one_age_the_higher_priority_goes_first(one: int, other: int, since_ms: int) -> None:
    assert (rank(one, since_ms) < rank(other, since_ms)) == (one > other)


@given(PRIORITIES, PRIORITIES, TIMES)
def test_nothing_that_comes_later_goes_first_for_ever(old: int, young: int, since_ms: int) -> None:
    assert rank(old, since_ms) < rank(young, since_ms + 200 * AGE_MS + 1)
