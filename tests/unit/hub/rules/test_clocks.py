"""What a worker's times are by the hub's clock, and how far that can be trusted (DESIGN §6)."""

from __future__ import annotations

from math import floor

from hypothesis import given, strategies as st

from broker.messages import ClockSample
from hub.rules.clocks import (
    DRIFT_PPM,
    MAX_BOOTS,
    MAX_SAMPLES,
    Clocks,
    Estimate,
    correct,
    current,
    learn,
    sample,
)

HOUR = 3_600_000


def exchange(sent: int, received: int, answered: int, heard: int, boot: str = "b1") -> ClockSample:
    return ClockSample(boot=boot, sent_at=sent, received_at=received, answered_at=answered, heard_at=heard)


def test_a_clock_that_is_an_hour_slow_and_ten_milliseconds_away() -> None:
    assert sample(exchange(0, HOUR + 10, HOUR + 12, 22)) == Estimate(HOUR, 11, 22)


def test_a_way_that_is_all_in_one_direction_is_within_the_bound() -> None:
    estimate = sample(exchange(1000, 1400, 1400, 1400))  # the truth is 0, and the answer took no time
    assert (estimate.offset_ms, estimate.error_ms) == (200, 201)


@given(
    offset=st.floats(-1e7, 1e7),
    there=st.floats(0, 5000),
    held=st.floats(0, 5000),
    back=st.floats(0, 5000),
    began=st.floats(2e8, 3e8),  # far from 1970, before which there is no time on the wire
    later=st.floats(-1e8, 1e8),
)
def test_whatever_the_way_the_true_time_is_within_the_bound(
    *, offset: float, there: float, held: float, back: float, began: float, later: float
) -> None:
    said = exchange(
        floor(began),
        floor(began + offset + there),
        floor(began + offset + there + held),
        floor(began + there + held + back),
    )
    then = began + later
    told, error_ms = correct(floor(then), {"b1": (sample(said),)}, "b1")
    assert error_ms is not None
    assert abs(told - floor(then + offset)) <= error_ms


@given(drift_ppm=st.floats(-DRIFT_PPM, DRIFT_PPM), later=st.integers(0, 10 * 24 * HOUR))
def test_clocks_that_drift_apart_stay_within_the_bound(drift_ppm: float, later: int) -> None:
    clocks = learn({}, exchange(HOUR, HOUR, HOUR, HOUR))
    told, error_ms = correct(HOUR + later, clocks, "b1")
    assert error_ms is not None
    assert abs(told - (HOUR + later * (1 + drift_ppm / 1_000_000))) <= error_ms


def test_a_boot_that_never_met_the_hub_is_told_as_it_is() -> None:
    assert correct(77, learn({}, exchange(0, 5, 5, 10)), "another") == (77, None)
    assert correct(77, {}, None) == (77, None)


def test_the_same_exchange_in_each_heartbeat_is_no_news() -> None:
    known = learn({}, exchange(0, 50, 50, 100))
    assert learn(known, exchange(0, 50, 50, 100)) is known


def test_a_worse_exchange_soon_after_a_good_one_is_passed_over() -> None:
    known = learn({}, exchange(0, 5, 5, 10))
    assert learn(known, exchange(1000, 1500, 1500, 2000)) is known


def test_a_good_exchange_takes_the_place_of_a_bad_one() -> None:
    known = learn(learn({}, exchange(0, 500, 500, 1000)), exchange(1000, 1001, 1001, 1002))
    assert known == {"b1": (Estimate(0, 2, 1002),)}


def test_what_was_told_before_an_absence_is_corrected_by_the_exchange_before_it() -> None:
    week = 7 * 24 * HOUR
    known = learn(learn({}, exchange(0, 5, 5, 10)), exchange(week, week + 605, week + 605, week + 10))
    assert correct(1000, known, "b1") == (1000, 7)
    assert correct(week, known, "b1") == (week + 600, 7)


def test_no_more_boots_and_exchanges_are_kept_than_are_needed() -> None:
    known: Clocks = {}
    for boot in range(2 * MAX_BOOTS):
        for hour in range(2 * MAX_SAMPLES):
            at = hour * HOUR
            known = learn(known, exchange(at, at, at, at, boot=f"b{boot}"))
    assert list(known) == [f"b{number}" for number in range(MAX_BOOTS, 2 * MAX_BOOTS)]
    assert [one.at_ms // HOUR for one in known["b7"]] == list(range(MAX_SAMPLES, 2 * MAX_SAMPLES))


def test_an_offset_is_told_with_its_bound_of_now() -> None:
    known = learn({}, exchange(0, HOUR, HOUR, 0))
    assert current(known, "b1", HOUR) == (HOUR, 1)
    assert current(known, "b1", HOUR + 1_000_000) == (HOUR, 1 + DRIFT_PPM)
    assert current(known, "b2", HOUR) is None
    assert current(known, None, HOUR) is None
