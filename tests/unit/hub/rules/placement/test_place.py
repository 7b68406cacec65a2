"""A worker as placement sees it."""

from __future__ import annotations

import pytest

from hub.rules.placement import new_rate
from hub.rules.placement.place import MAX_QUEUED, standing
from tests.unit.hub.rules.placement.cases import worker


def test_a_worker_that_works_fast_gets_a_quarter_second_of_work_in_advance() -> None:
    fast = worker(slots=2)
    fast.rate = 100.0
    assert fast.room == 2 + 25
    fast.rate = 1e9
    assert fast.room == 2 + MAX_QUEUED


def test_a_rate_follows_what_is_ended_and_comes_to_rest() -> None:
    rate = 0.0
    for _ in range(40):
        rate = new_rate(rate, 25, 0.25)
    assert rate == pytest.approx(100, rel=0.01)
    for _ in range(60):
        rate = new_rate(rate, 0, 0.25)
    assert rate < 0.01


def test_a_free_slot_goes_before_any_room_in_a_queue() -> None:
    fast, slow = worker("fast", in_flight=2), worker("slow", in_flight=1)
    fast.rate = 1000.0
    first, second = standing(slow), standing(fast)
    assert first is not None
    assert second is not None
    assert first < second


def test_who_is_away_or_full_does_not_stand_anywhere() -> None:
    assert standing(worker(online=False)) is None
    assert standing(worker(full=True)) is None
    assert standing(worker(in_flight=2)) is None
