"""Cron expressions: what each says, and what is none."""

from __future__ import annotations

import pytest

from broker import cron


def test_all_of_a_star_is_every_value_of_its_field() -> None:
    read = cron.parse("* * * * *")

    assert read.minutes == frozenset(range(60))
    assert read.hours == frozenset(range(24))
    assert read.days == frozenset(range(1, 32))
    assert read.months == frozenset(range(1, 13))
    assert read.weekdays == frozenset(range(7))
    assert not read.either_day


@pytest.mark.parametrize(
    ("field", "minutes"),
    [
        ("7", {7}),
        ("0,30", {0, 30}),
        ("5-8", {5, 6, 7, 8}),
        ("*/20", {0, 20, 40}),
        ("10-20/5,59", {10, 15, 20, 59}),
    ],
)
def test_a_field_is_a_list_of_numbers_and_ranges_with_steps(field: str, minutes: set[int]) -> None:
    assert cron.parse(f"{field} * * * *").minutes == minutes


@pytest.mark.parametrize(
    ("field", "weekdays"),
    [
        ("0", {0}),
        ("7", {0}),
        ("sun", {0}),
        ("1-5", {1, 2, 3, 4, 5}),
        ("MON-FRI", {1, 2, 3, 4, 5}),
        ("5-7", {5, 6, 0}),
        ("fri-sun", {5, 6, 0}),
        ("*/2", {0, 2, 4, 6}),
        ("tue,thu", {2, 4}),
    ],
)
def test_the_first_weekday_is_sunday_which_is_7_too(field: str, weekdays: set[int]) -> None:
    assert cron.parse(f"0 0 * * {field}").weekdays == weekdays


def test_months_have_names() -> None:
    assert cron.parse("0 0 1 jan,Jun-aug *").months == {1, 6, 7, 8}


@pytest.mark.parametrize(
    ("days", "either"), [("1 * mon", True), ("* * mon", False), ("1 * *", False), ("*/2 * mon", False)]
)
def test_one_of_the_two_days_is_enough_where_both_are_restricted(days: str, either: bool) -> None:  # noqa: FBT001
    assert cron.parse(f"0 0 {days}").either_day is either


def test_february_has_29_days_sometimes_and_a_weekday_comes_whatever_the_month_has() -> None:
    cron.parse("0 0 29 2 *")
    assert cron.parse("0 0 31 2 mon") == cron.parse("0 0 * 2 mon")  # or someone would look for that day till 9999


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "five fields"),
        ("0 3 * *", "five fields"),
        ("0 3 * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "a minute from 0 to 59"),
        ("* 24 * * *", "an hour from 0 to 23"),
        ("* * 0 * *", "a day of the month from 1 to 31"),
        ("* * * 13 *", "a month from 1 to 12, or jan to dec"),
        ("* * * * 8", "a weekday from 0 to 7, or sun to sat"),
        ("* * * * mond", '"mond" is none'),
        ("5-1 * * * *", '"5-1" is none'),
        ("*/0 * * * *", "is none"),
        ("5/2 * * * *", "is none"),
        ("1- * * * *", "is none"),
        ("-1 * * * *", "is none"),
        ("1,,2 * * * *", "is none"),
        ("٣ * * * *", "is none"),
        ("0 0 30 2 *", "a day that its months have"),
        ("0 0 31 4,6 */2", "a day that its months have"),
    ],
)
def test_what_is_none_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        cron.parse(text)
