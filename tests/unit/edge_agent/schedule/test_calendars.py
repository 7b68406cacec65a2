"""Times of a calendar, beside a reckoning that looks at each minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from edge_agent.schedule.calendars import Calendar

if TYPE_CHECKING:
    from collections.abc import Iterator

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def shown(at: int | None, zone: ZoneInfo | None = None) -> str:
    assert at is not None
    return datetime.fromtimestamp(at / 1000, zone or UTC).isoformat()


def times(calendar: Calendar, after: str, until: str) -> Iterator[str]:
    at = ms(after)
    while (at := calendar.after(at) or 0) and at <= ms(until):
        yield shown(at, BERLIN)


def test_the_next_time_is_after_the_last_and_not_at_it() -> None:
    calendar = Calendar("0 3 * * *", UTC)

    assert shown(calendar.after(ms("2026-11-25T02:59:59.999Z"))) == "2026-11-25T03:00:00+00:00"
    assert shown(calendar.after(ms("2026-11-25T03:00:00Z"))) == "2026-11-26T03:00:00+00:00"
    assert shown(calendar.after(ms("2026-11-25T03:00:00.001Z"))) == "2026-11-26T03:00:00+00:00"


def test_sunday_is_0_and_7_and_monday_is_1() -> None:
    wednesday = ms("2026-11-25T12:00:00Z")

    assert shown(Calendar("0 3 * * 0", UTC).after(wednesday)) == "2026-11-29T03:00:00+00:00"
    assert shown(Calendar("0 3 * * 7", UTC).after(wednesday)) == "2026-11-29T03:00:00+00:00"
    assert shown(Calendar("0 3 * * 1", UTC).after(wednesday)) == "2026-11-30T03:00:00+00:00"
    assert shown(Calendar("0 3 * * sat", UTC).after(wednesday)) == "2026-11-28T03:00:00+00:00"


def test_day_or_weekday_is_enough_where_both_are_given() -> None:
    calendar = Calendar("0 0 1 * mon", BERLIN)

    found = list(times(calendar, "2026-11-25T00:00:00+01:00", "2026-12-08T00:00:00+01:00"))
    assert [time[:10] for time in found] == ["2026-11-30", "2026-12-01", "2026-12-07"]


def test_a_time_that_is_left_out_in_spring_comes_an_hour_later_and_once() -> None:
    found = list(times(Calendar("30 2 * * *", BERLIN), "2026-03-28T00:00:00+01:00", "2026-03-31T00:00:00+02:00"))

    assert found == ["2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]


def test_a_time_that_is_left_out_is_found_from_within_the_hour_that_took_its_place() -> None:
    both = Calendar("0,30 2,3 * * *", BERLIN)

    assert list(times(both, "2026-03-29T03:15:00+02:00", "2026-03-29T05:00:00+02:00")) == ["2026-03-29T03:30:00+02:00"]
    assert list(times(both, "2026-03-29T00:00:00+01:00", "2026-03-29T05:00:00+02:00")) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
    ]


def test_a_time_that_comes_twice_in_autumn_is_fired_once() -> None:
    found = list(times(Calendar("30 2 * * *", BERLIN), "2026-10-24T12:00:00+02:00", "2026-10-26T12:00:00+01:00"))

    assert found == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_what_is_bound_to_no_hour_goes_on_as_time_does() -> None:
    autumn = list(times(Calendar("*/30 * * * *", BERLIN), "2026-10-25T01:00:00+02:00", "2026-10-25T03:00:00+01:00"))
    spring = list(times(Calendar("*/30 * * * *", BERLIN), "2026-03-29T01:00:00+01:00", "2026-03-29T03:30:00+02:00"))

    assert [time[11:] for time in autumn] == [
        "01:30:00+02:00",
        "02:00:00+02:00",
        "02:30:00+02:00",
        "02:00:00+01:00",
        "02:30:00+01:00",
        "03:00:00+01:00",
    ]
    assert [time[11:] for time in spring] == ["01:30:00+01:00", "03:00:00+02:00", "03:30:00+02:00"]


def test_the_29th_of_february_comes_every_fourth_year() -> None:
    assert shown(Calendar("0 0 29 2 *", UTC).after(ms("2026-11-25T00:00:00Z"))) == "2028-02-29T00:00:00+00:00"


def test_nothing_is_planned_before_the_start() -> None:
    start = ms("2026-12-01T03:00:00Z")

    assert Calendar("0 3 * * *", UTC, start).after(0) == start


@pytest.mark.parametrize("years", [0, 1, 56])
def test_the_latest_of_what_was_missed_is_found_at_once_however_long_ago_the_first_was(years: int) -> None:
    calendar = Calendar("* 3 * * *", UTC)
    after = ms("2026-11-25T03:10:00Z") - years * 365 * 24 * 3600 * 1000

    assert shown(calendar.latest(after, ms("2026-11-26T01:00:00Z"))) == "2026-11-25T03:59:00+00:00"
    assert calendar.latest(ms("2026-11-25T03:59:00Z"), ms("2026-11-26T02:59:59Z")) is None


NUMBERS = {0: (0, 59), 1: (0, 23), 2: (1, 31), 3: (1, 12), 4: (0, 7)}


@st.composite
def fields(draw: st.DrawFn, field: int) -> str:
    low, high = NUMBERS[field]
    kind = draw(st.sampled_from(["*", "number", "range", "list", "step"]))
    number = st.integers(low, high)
    if kind == "*":
        return "*"
    if kind == "step":
        return f"*/{draw(st.integers(1, high))}"
    if kind == "range":
        first, last = sorted([draw(number), draw(number)])
        return f"{first}-{last}"
    return ",".join(map(str, draw(st.lists(number, min_size=1, max_size=3))))


def is_matched(text: str, at: datetime) -> bool:
    """Tell whether a minute is one of an expression's, in the words of crontab(5)."""
    minute, hour, day, month, weekday = text.split()
    sunday_first = at.isoweekday() % 7
    on_day = _has(day, at.day, 2)
    on_weekday = _has(weekday, sunday_first, 4) or (sunday_first == 0 and _has(weekday, 7, 4) and weekday != "*")
    either = not day.startswith("*") and not weekday.startswith("*")
    return (
        _has(minute, at.minute, 0)
        and _has(hour, at.hour, 1)
        and _has(month, at.month, 3)
        and ((on_day or on_weekday) if either else (on_day and on_weekday))
    )


def _has(field: str, value: int, number: int) -> bool:
    low, high = NUMBERS[number]
    if field.startswith("*"):
        step = int(field.partition("/")[2] or 1)
        return value in range(low, high + (number != 4), step)
    return any(int(part.split("-")[0]) <= value <= int(part.split("-")[-1]) for part in field.split(","))


@settings(max_examples=40, deadline=None)
@given(
    text=st.tuples(*(fields(number) for number in (0, 1, 4))).map(lambda f: f"{f[0]} {f[1]} * * {f[2]}")
    | st.tuples(*(fields(number) for number in range(5))).map(" ".join),
    day=st.sampled_from(["2026-03-28", "2026-10-24", "2026-11-30", "2028-02-28"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"]),
)
def test_it_finds_what_a_look_at_each_minute_finds(text: str, day: str, zone: str) -> None:
    try:
        calendar = Calendar(text, ZoneInfo(zone))
    except ValueError:
        return  # a day that never comes
    start = datetime.fromisoformat(f"{day}T00:00:00").replace(tzinfo=ZoneInfo(zone))
    wildcard = text.split()[1].startswith("*")
    expected, at = [], start.astimezone(UTC)
    while at < start.astimezone(UTC) + timedelta(days=3):
        local = at.astimezone(ZoneInfo(zone))
        if is_matched(text, local) and (wildcard or not local.fold):
            expected.append(int(at.timestamp() * 1000))
        at += timedelta(minutes=1)

    found, until = [], int(at.timestamp() * 1000) - 1
    moment = int(start.timestamp() * 1000) - 1
    while (moment := calendar.after(moment) or 0) and moment <= until:
        found.append(moment)

    moved = [one for one in found if one not in expected]
    assert [one for one in found if one in expected] == expected
    assert all(not wildcard and _is_after_a_gap(one, ZoneInfo(zone)) for one in moved)
    begin = int(start.timestamp() * 1000) - 1
    assert calendar.latest(begin, until) == (found[-1] if found else None)
    for moment in range(begin, until - 24 * HOUR_MS, 37 * MINUTE_MS):  # wherever one begins to look, it is the same
        following = next((one for one in found if one > moment), None)
        assert following in (calendar.after(moment), None)


def _is_after_a_gap(at: int, zone: ZoneInfo) -> bool:
    """Tell whether a time stands for one that was left out: clocks were put forward in the hours before it."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    before, then = ((moment - timedelta(hours=hours)).astimezone(zone).utcoffset() for hours in (2, 0))
    assert before is not None
    assert then is not None
    return then > before
