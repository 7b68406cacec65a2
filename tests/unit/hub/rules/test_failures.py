"""How often wrong credentials may come from one place."""

from __future__ import annotations

import pytest

from hub.rules.failures import Failures, place_of


def test_some_tries_in_a_row_are_answered_and_then_one_now_and_then() -> None:
    failures = Failures(tries=3, seconds_per_try=6)
    assert [failures.count("10.0.0.1", 100) for _ in range(4)] == [None, None, None, 6]
    assert failures.count("10.0.0.1", 102) == 4
    assert failures.count("10.0.0.1", 106) is None
    assert failures.count("10.0.0.1", 106) == 6
    assert [failures.count("10.0.0.1", 1000) for _ in range(4)] == [None, None, None, 6]


def test_one_place_does_not_hold_up_another() -> None:
    failures = Failures(tries=1)
    assert failures.count("10.0.0.1", 0) is None
    assert failures.count("10.0.0.1", 0) is not None
    assert failures.count("10.0.0.2", 0) is None


def test_what_is_remembered_does_not_grow_without_end() -> None:
    failures = Failures(tries=1, places=100)
    for number in range(10_000):
        failures.count(f"10.0.{number // 256}.{number % 256}", number)
    assert len(failures) == 100
    assert failures.count("10.0.0.0", 10_000) is None  # forgotten
    assert failures.count("10.0.39.15", 10_000) is not None


def test_the_one_that_goes_on_is_not_forgotten_for_those_that_were_there_once() -> None:
    failures = Failures(tries=1, seconds_per_try=1_000_000, places=10)
    failures.count("10.9.9.9", 0)
    for number in range(1_000):
        failures.count(f"10.0.{number // 256}.{number % 256}", number)
        assert failures.count("10.9.9.9", number) is not None


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        (None, ""),
        ("/run/hub.sock", "/run/hub.sock"),
    ],
)
def test_a_subscribers_whole_network_is_one_place(address: str | None, place: str) -> None:
    assert place_of(address) == place
