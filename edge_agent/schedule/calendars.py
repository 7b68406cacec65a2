"""Times of a calendar: a cron expression in a time zone.

Which dates match is reckoned by APScheduler's trigger, on a calendar without time zone: it counts weekdays from Monday,
wants day and weekday both to match, and fires twice in an hour that comes twice (apscheduler 3.11). So it is given what
`broker.cron` has read, is asked twice where one of the two days is enough, and the time zone is ours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.triggers.cron import CronTrigger

from broker import cron

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import tzinfo

_SECOND = timedelta(seconds=1)
_LONGEST_STEP_SECONDS = 3 * 3600
"""By how much clocks are put forward at most: the longest that there was, of a summer, was two hours."""

_DAY_SECONDS = 24 * 3600
"""Between two looks for a change of the clocks: no zone has two in a day."""


class Calendar:
    """The times of a cron expression.

    When clocks are put forward, what is planned in the hour that is left out comes as much later. When they are put
    back, what is bound to hours of the day comes once; what is not goes on as time does.
    """

    def __init__(self, expression: str, zone: tzinfo, start_ms: int | None = None) -> None:
        parsed = cron.parse(expression)
        self._zone = zone
        self._start_ms = start_ms
        self._after_second = self._after_in_time if parsed.follows_time else self._after_by_hours
        self._triggers = [
            CronTrigger(
                minute=_listed(parsed.minutes, 60),
                hour=_listed(parsed.hours, 24),
                day=_listed(days, 31),
                month=_listed(parsed.months, 12),
                day_of_week=_listed({(day - 1) % 7 for day in weekdays}, 7),
                timezone=UTC,
            )
            for days, weekdays in _ways(parsed)
        ]

    @property
    def follows_clock(self) -> bool:
        """Whether it means times of the calendar: that is all it means."""
        return True

    def after(self, at: int) -> int | None:
        """Return the first time after `at`, in milliseconds; None if there is none."""
        if self._start_ms is not None:
            at = max(at, self._start_ms - 1)
        found = self._after_second(at // 1000)
        return None if found is None else found * 1000

    def latest(self, after: int, until: int) -> int | None:
        """Return the last time after `after` and not after `until`, in milliseconds; None if there is none."""
        found = self.after(after)
        if found is None or found > until:
            return None
        low, high = found // 1000, until // 1000  # the last one is at `low` or behind it, and at `high` at most
        while low < high:
            middle = (low + high) // 2
            following = self._after_second(middle)
            if following is not None and following <= until // 1000:
                low = following
            else:
                high = middle
        return low * 1000

    def _after_by_hours(self, second: int) -> int | None:
        """Return the first time after `second` that the clock on the wall shows for the first time.

        A time that the clock does not show, since it was put forward, stands for one that is as much later. So it may
        be behind times that come after it on the calendar.
        """
        was_set = self._offset(second) != self._offset(second - _LONGEST_STEP_SECONDS)
        shown: datetime | None = self._shown(second - _LONGEST_STEP_SECONDS if was_set else second)
        moved: list[int] = []
        while shown is not None and (shown := self._match_after(shown)) is not None:
            found = int(shown.replace(tzinfo=self._zone).timestamp())
            if found > second:  # else the clock shows it a second time, or it is over
                moved.append(found)
                if self._shown(found) == shown:
                    break
        return min(moved, default=None)

    def _after_in_time(self, second: int) -> int | None:
        """Return the first time after `second`, in the order of time, whatever happens to the clock on the wall."""
        while True:
            offset = self._offset(second + 1)
            shown = self._match_after(datetime.fromtimestamp(second + offset, UTC).replace(tzinfo=None))
            if shown is None:
                return None
            found = int(shown.replace(tzinfo=UTC).timestamp()) - offset
            change = self._change_after(second + 1, found)
            if change is None:
                return found
            second = change - 1

    def _match_after(self, shown: datetime) -> datetime | None:
        """Return the next time that matches, on a calendar without time zone."""
        begin = shown.replace(microsecond=0, tzinfo=UTC) + _SECOND
        found = [at for trigger in self._triggers if (at := trigger.get_next_fire_time(None, begin)) is not None]
        return min(found).replace(tzinfo=None) if found else None

    def _change_after(self, begin: int, end: int) -> int | None:
        """Return the first second after `begin`, up to `end`, at which the clocks are set; None if there is none."""
        offset = self._offset(begin)
        low = begin
        while low < end:
            high = min(low + _DAY_SECONDS, end)
            if self._offset(high) != offset:
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _shown(self, second: int) -> datetime:
        return datetime.fromtimestamp(second, self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, second: int) -> int:
        offset = datetime.fromtimestamp(second, self._zone).utcoffset() or timedelta()
        return int(offset.total_seconds())


def _ways(parsed: cron.Cron) -> list[tuple[Collection[int], Collection[int]]]:
    """Return which days of the month go with which weekdays."""
    if parsed.either_day:
        return [(parsed.days, range(7)), (range(1, 32), parsed.weekdays)]
    return [(parsed.days, parsed.weekdays)]


def _listed(values: Collection[int], all_of_them: int) -> str:
    return "*" if len(values) == all_of_them else ",".join(map(str, sorted(values)))
