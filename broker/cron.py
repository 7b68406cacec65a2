"""Reads cron expressions: five fields, as crontab(5) has them.

>>> sorted(parse("*/20 3 * * mon-fri").minutes)
[0, 20, 40]

Fields are minute, hour, day of the month, month and weekday: `*`, a number, a range, a list of them, each range with a
step. Months and weekdays have names too, and Sunday is 0 or 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_SUNDAY_AGAIN = 7


@dataclass(frozen=True, slots=True)
class Cron:
    """When something is due: at each minute that matches.

    Attributes:
        weekdays: From 0, Sunday, to 6.
        either_day: Day of the month or weekday is enough: both were restricted. Else both must match.
        follows_time: It is not bound to hours of the day, so it goes on when clocks are put back, and does not wait for
            an hour that comes a second time.

    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    follows_time: bool


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("a minute", 0, 59),
    _Field("an hour", 0, 23),
    _Field("a day of the month", 1, 31),
    _Field("a month", 1, 12, MONTHS),
    _Field("a weekday", 0, _SUNDAY_AGAIN, WEEKDAYS),
)


def parse(text: str) -> Cron:
    """Return what an expression says.

    Raises:
        ValueError: If it says nothing, or a day that never comes; the text says what was expected.

    """
    words = text.lower().split()
    if len(words) != len(_FIELDS):
        msg = f'five fields, "minute hour day month weekday", not {len(words)}'
        raise ValueError(msg)
    minutes, hours, days, months, weekdays = (_values(word, field) for word, field in zip(words, _FIELDS, strict=True))
    either_day = not words[2].startswith("*") and not words[4].startswith("*")
    if not any(min(days) <= LONGEST_MONTHS[month - 1] for month in months):
        if not either_day:
            msg = f"a day that its months have, not day {words[2]} of month {words[3]}"
            raise ValueError(msg)
        either_day, days = False, _values("*", _FIELDS[2])  # its weekdays are left: nobody is to look for that day
    return Cron(
        minutes,
        hours,
        days,
        months,
        frozenset(day % _SUNDAY_AGAIN for day in weekdays),
        either_day,
        follows_time=words[1].startswith("*"),
    )


def _values(word: str, field: _Field) -> frozenset[int]:
    return frozenset(value for part in word.split(",") for value in _range(part, field))


def _range(part: str, field: _Field) -> range:
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if span == "*":
        low, high = field.low, field.high if field.names != WEEKDAYS else field.high - 1
    else:
        low = _number(first, field)
        high = _number(last, field) if dash else low
        if field.names == WEEKDAYS and dash and high == 0 and low:
            high = _SUNDAY_AGAIN  # fri-sun
    is_stepped = bool(slash)
    if low > high or (is_stepped and span != "*" and not dash) or (is_stepped and not _is_step(step)):
        raise ValueError(_expected(part, field))
    return range(low, high + 1, int(step) if is_stepped else 1)


def _number(word: str, field: _Field) -> int:
    if word in field.names:
        return field.names.index(word) + field.low
    if word.isascii() and word.isdigit() and field.low <= int(word) <= field.high:
        return int(word)
    raise ValueError(_expected(word, field))


def _is_step(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word) > 0


def _expected(word: str, field: _Field) -> str:
    names = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
    what = f"{field.name} from {field.low} to {field.high}{names}"
    return f'{what}; a range of them as in 1-5, a step as in */2 or 1-5/2; "{word}" is none'
