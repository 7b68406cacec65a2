"""The plan of faults and the stream of tasks: repeatable, and as dense as is asked."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.chaos.city import CITY
from tests.chaos.plan import Kind, plan_faults, resources
from tests.chaos.work import Way, order

LONG_SECONDS = 2100.0


def test_the_same_seed_gives_the_same_plan_and_the_same_tasks() -> None:
    assert plan_faults(7, 300, CITY) == plan_faults(7, 300, CITY) != plan_faults(8, 300, CITY)
    assert [order(7, n, CITY) for n in range(50)] == [order(7, n, CITY) for n in range(50)]


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    assert plan_faults(7, 300, CITY)[:40] == plan_faults(7, 400, CITY)[:40]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_long_run_has_a_thousand_faults_of_every_kind(seed: int) -> None:
    faults = plan_faults(seed, LONG_SECONDS, CITY)
    assert len(faults) >= 1000
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(fault.at + fault.seconds <= LONG_SECONDS for fault in faults)


def test_nothing_is_broken_twice_at_one_time() -> None:
    for one, other in combinations(plan_faults(1, 600, CITY), 2):
        overlap = one.at < other.at + other.seconds and other.at < one.at + one.seconds
        assert not (overlap and set(resources(one, CITY)) & set(resources(other, CITY)))


def test_what_cannot_be_done_is_left_out() -> None:
    assert Kind.FILL_DISK not in {fault.kind for fault in plan_faults(1, 600, CITY, without=[Kind.FILL_DISK])}


def test_tasks_come_every_way_and_only_some_may_be_published_again() -> None:
    orders = [order(1, number, CITY) for number in range(1000)]
    assert {(one.way, one.idempotent) for one in orders} == {(way, kind) for way in Way for kind in (True, False)}
    assert {(one.way, one.idempotent) for one in orders if one.once} == {(Way.SITE, False), (Way.OWN, False)}
    assert all((one.worker is not None) >= (one.way is Way.OWN) for one in orders)
