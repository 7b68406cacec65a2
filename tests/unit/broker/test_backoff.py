"""Waits between tries: bounded from both sides, whatever the number of failures and the jitter."""

from __future__ import annotations

from hypothesis import given, strategies as st

from broker.backoff import BASE_SECONDS, CAP_SECONDS, delay_seconds

FAILURES = st.integers(min_value=1, max_value=10**9)
JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(FAILURES, JITTER)
def test_a_wait_is_within_its_bounds(failures: int, jitter: float) -> None:
    assert BASE_SECONDS / 4 <= delay_seconds(failures, jitter) <= CAP_SECONDS


@given(FAILURES, JITTER)
def test_another_failure_never_shortens_the_wait(failures: int, jitter: float) -> None:
    assert delay_seconds(failures + 1, jitter) >= delay_seconds(failures, jitter)


@given(FAILURES)
def test_jitter_spreads_a_crowd_over_three_quarters_of_the_wait(failures: int) -> None:
    assert delay_seconds(failures, 0.999) > 3.9 * delay_seconds(failures, 0.0)


def test_the_first_wait_is_the_base_and_a_long_row_reaches_the_cap() -> None:
    longest = 1 - 1e-12
    assert round(delay_seconds(1, longest), 6) == BASE_SECONDS
    assert round(delay_seconds(2, longest), 6) == 2 * BASE_SECONDS
    assert round(delay_seconds(50, longest), 6) == CAP_SECONDS
    assert round(delay_seconds(3, longest, base=1, cap=60), 6) == 4
