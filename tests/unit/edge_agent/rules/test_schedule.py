"""When a job fires: decided from numbers, whatever became of the clock."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from broker.messages import TaskId, TaskSpec
from edge_agent.rules import schedule as rules
from edge_agent.rules.schedule import Fire, Hold, Job, Mark, Skip, Wait, look
from edge_agent.rules.timing import Every

if TYPE_CHECKING:
    from broker.messages.schedules import Misfire, Overlap

NOON = 1_795_608_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY


class Hourly:
    """A calendar of whole hours."""

    follows_clock = True

    def after(self, at: int) -> int:
        return at // HOUR * HOUR + HOUR

    def latest(self, after: int, until: int) -> int | None:
        last = until // HOUR * HOUR
        return last if last > after else None


def job(
    *, every: int | None = None, start: int | None = None, misfire: Misfire = "skip", overlap: Overlap = "skip"
) -> Job:
    timing = Every(every, start) if every else Hourly()
    return Job(key="file:j", timing=timing, spec=TaskSpec(kind="noop"), misfire=misfire, overlap=overlap, requires={})


def test_the_first_run_of_an_interval_is_one_interval_after_the_job_is_new() -> None:
    assert look(job(every=MINUTE), Mark.at(NOON), NOON, is_busy=False) == Wait(NOON + MINUTE)


def test_what_is_due_fires_as_the_time_that_it_was_planned_for() -> None:
    assert look(job(every=MINUTE), Mark.at(NOON), NOON + MINUTE + 7, is_busy=False) == Fire(NOON + MINUTE)


def test_the_rhythm_is_that_of_the_plan_and_not_of_when_it_fired() -> None:
    one, fired = job(every=MINUTE), Fire(NOON + MINUTE)

    assert look(one, Mark.at(fired.through), NOON + MINUTE + 999, is_busy=False) == Wait(NOON + 2 * MINUTE)


def test_with_a_start_an_interval_counts_from_there_before_and_behind_it() -> None:
    assert Every(MINUTE, NOON).after(NOON - DAY) == NOON
    assert Every(MINUTE, NOON).after(NOON - 1) == NOON
    assert Every(MINUTE, NOON).after(NOON) == NOON + MINUTE
    assert Every(MINUTE, NOON).after(NOON + DAY + 1) == NOON + DAY + MINUTE


def test_nothing_is_planned_after_the_end() -> None:
    one = replace(job(), end_ms=NOON + HOUR)

    assert look(one, Mark.at(NOON), NOON + HOUR, is_busy=False) == Fire(NOON + HOUR)
    assert look(one, Mark.at(NOON + HOUR), NOON + HOUR, is_busy=False) == Wait(None)
    assert look(replace(one, misfire="once"), Mark.at(NOON), NOON + DAY, is_busy=False) == Fire(NOON + HOUR)


# -- what was missed ------------------------------------------------------------------------------------------------


def test_what_is_a_little_late_is_fired() -> None:
    assert look(job(), Mark.at(NOON), NOON + HOUR + MINUTE, is_busy=False) == Fire(NOON + HOUR)


def test_what_is_too_late_is_skipped_or_made_up_for_once() -> None:
    now = NOON + 5 * HOUR + 2 * MINUTE

    skipped = look(job(), Mark.at(NOON), now, is_busy=False)
    assert skipped == Skip(NOON + HOUR, NOON + 5 * HOUR, rules.MISSED)
    made_up = look(job(misfire="once"), Mark.at(NOON), now, is_busy=False)
    assert made_up == Fire(NOON + 5 * HOUR, Skip(NOON + HOUR, NOON + 4 * HOUR, rules.PASSED_OVER))
    interval = look(job(every=HOUR, misfire="once"), Mark.at(NOON + 7), now, is_busy=False)
    assert interval == Fire(NOON + 5 * HOUR + 7, Skip(NOON + HOUR + 7, NOON + 4 * HOUR + 7, rules.PASSED_OVER))


@pytest.mark.parametrize("misfire", ["skip", "once"])
@pytest.mark.parametrize("every", [None, 1000, MINUTE])
@pytest.mark.parametrize("gone", [DAY, YEAR, 56 * YEAR])
def test_a_clock_that_jumps_years_forward_is_one_decision_and_no_storm(
    misfire: Misfire, every: int | None, gone: int
) -> None:
    one, now = job(every=every, misfire=misfire), NOON + gone + 61_500

    first = look(one, Mark.at(NOON), now, is_busy=False)
    assert isinstance(first, Fire | Skip)
    following = look(one, Mark.at(first.through), now, is_busy=False)
    assert isinstance(following, Wait)
    assert following.until is not None
    assert now < following.until <= now + HOUR


# -- the last run goes on -------------------------------------------------------------------------------------------


def test_while_the_last_run_goes_on_a_firing_is_skipped_waits_or_ends_it() -> None:
    mark, now = Mark.at(NOON, "last"), NOON + HOUR

    assert look(job(), mark, now, is_busy=True) == Skip(now, now, rules.OVERLAP)
    assert look(job(overlap="queue"), mark, now, is_busy=True) == Hold(replaces=False)
    assert look(job(overlap="replace"), mark, now, is_busy=True) == Hold(replaces=True)


def test_a_firing_that_has_waited_is_not_too_late_however_long_the_last_run_was() -> None:
    one, now = job(overlap="queue"), NOON + 7 * HOUR + 30 * MINUTE
    waits = Mark(NOON, NOON, "last", waits=True)

    assert look(one, waits, now, is_busy=True) == Hold(replaces=False)
    fired = look(one, waits, now, is_busy=False)
    assert fired == Fire(NOON + 7 * HOUR, Skip(NOON + HOUR, NOON + 6 * HOUR, rules.PASSED_OVER))


# -- jitter ---------------------------------------------------------------------------------------------------------


def test_jitter_is_another_one_for_each_worker_and_each_firing_and_the_same_at_each_look() -> None:
    one = replace(job(), jitter_ms=10 * MINUTE)
    workers = [replace(one, seed=f"w{number}") for number in range(50)]
    delays = [worker.due(NOON) - NOON for worker in workers]

    assert all(0 <= delay <= 10 * MINUTE for delay in delays)
    assert len(set(delays)) > 40
    assert len({workers[0].due(NOON + hour * HOUR) % HOUR for hour in range(50)}) > 40
    assert delays == [worker.due(NOON) - NOON for worker in workers]


def test_a_delayed_firing_is_that_of_its_planned_time_and_late_only_by_what_is_beyond() -> None:
    one = replace(job(), jitter_ms=30 * MINUTE)
    planned = NOON + HOUR
    due = one.due(planned)

    assert look(one, Mark.at(NOON), due - 1, is_busy=False) == Wait(due)
    assert look(one, Mark.at(NOON), due, is_busy=False) == Fire(planned)
    assert look(one, Mark.at(NOON), due + one.grace_ms, is_busy=False) == Fire(planned)
    assert look(one, Mark.at(NOON), due + one.grace_ms + 1, is_busy=False) == Skip(planned, planned, rules.MISSED)


# -- a clock that is set --------------------------------------------------------------------------------------------


def test_a_small_step_back_does_not_fire_again() -> None:
    one, fired = job(), Mark.at(NOON + HOUR)
    before = NOON + HOUR - 500

    stepped = rules.follow(fired, before, before)
    assert look(one, stepped, before, is_busy=False) == Wait(NOON + HOUR)
    again = rules.follow(stepped, NOON + HOUR, NOON + HOUR)
    assert look(one, again, NOON + HOUR, is_busy=False) == Wait(NOON + 2 * HOUR)


def test_a_clock_that_is_set_back_years_goes_on_from_there() -> None:
    one, now = job(), NOON - 14 * YEAR

    stepped = rules.follow(Mark.at(NOON), now, now)
    assert look(one, stepped, now, is_busy=False) == Wait(now // HOUR * HOUR + HOUR)
    later = rules.follow(stepped, now + HOUR, now + HOUR)
    assert isinstance(look(one, later, now + HOUR, is_busy=False), Fire)


def test_what_a_clock_that_was_set_back_came_past_before_it_was_looked_at_is_due() -> None:
    one, seen = job(), NOON - 14 * YEAR - 1000
    now = seen + 9000

    assert look(one, rules.follow(Mark.at(NOON), now, seen), now, is_busy=False) == Fire(NOON - 14 * YEAR)


def test_a_host_without_a_clock_of_its_own_misses_nothing_that_was_fired_before() -> None:
    one, boot = job(misfire="once"), 1000
    at_boot = rules.follow(Mark.at(NOON), boot, boot)  # January 1970, until the network is there
    assert look(one, at_boot, boot, is_busy=False) == Wait(HOUR)

    set_right = rules.follow(at_boot, NOON + MINUTE, NOON + MINUTE)
    assert look(one, set_right, NOON + MINUTE, is_busy=False) == Wait(NOON + HOUR)


def test_an_interval_that_outlasts_each_run_of_a_host_without_a_clock_still_comes_to_its_end() -> None:
    one, boot, now = job(every=HOUR), 10_000, NOON + 40 * MINUTE
    at_boot = rules.follow(Mark.at(NOON), boot, boot)
    assert look(one, at_boot, boot, is_busy=False) == Wait(boot + HOUR)

    set_a_little = rules.follow(rules.shift(one, at_boot, MINUTE), boot + MINUTE, boot + MINUTE)
    assert look(one, set_a_little, boot + MINUTE, is_busy=False) == Wait(boot + MINUTE + HOUR)
    set_right = rules.follow(rules.shift(one, set_a_little, now - boot - MINUTE), now, now)
    assert set_right == Mark.at(NOON)
    assert look(one, set_right, now, is_busy=False) == Wait(NOON + HOUR)


def test_an_interval_is_as_long_as_it_is_when_the_clock_is_set_while_it_runs() -> None:
    one, mark = job(every=HOUR), Mark.at(NOON)

    for by in (YEAR, -YEAR, 37):
        moved = rules.shift(one, mark, by)
        assert look(one, moved, NOON + by + MINUTE, is_busy=False) == Wait(NOON + by + HOUR)
    assert rules.shift(job(), mark, YEAR) == mark
    assert rules.shift(job(every=HOUR, start=NOON), mark, YEAR) == mark


@given(
    every=st.none() | st.integers(1000, 3 * HOUR),
    jitter=st.integers(0, 2 * HOUR),
    misfire=st.sampled_from(["skip", "once"]),
    steps=st.lists(st.tuples(st.integers(-3 * HOUR, 5 * HOUR), st.integers(0, 10_000)), min_size=1, max_size=40),
)
def test_no_firing_comes_before_its_time_or_twice_in_a_row_wherever_the_clock_goes(
    every: int | None, jitter: int, misfire: Misfire, steps: list[tuple[int, int]]
) -> None:
    one = replace(job(every=every, misfire=misfire), jitter_ms=min(jitter, every or jitter))
    mark, now, last = Mark.at(NOON), NOON, None
    for step, since_look in steps:
        now += step
        for _ in range(10):
            mark = rules.follow(mark, now, now - since_look)
            decision = look(one, mark, now, is_busy=False)
            if isinstance(decision, Wait):
                assert decision.until is None or decision.until > now
                break
            assert isinstance(decision, Fire | Skip)
            assert decision.through <= now
            assert decision.through != last
            last = decision.through
            mark = Mark.at(decision.through)
        else:
            pytest.fail("it goes on and on")


# -- ids ------------------------------------------------------------------------------------------------------------


@given(
    key=st.from_regex(r"(file|hub|code):[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    worker=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
)
def test_the_id_of_a_firing_is_an_id_and_says_job_time_and_worker(key: str, worker: str) -> None:
    found = rules.task_id(key, "20261125T030000.123Z", worker)

    assert re.fullmatch(TaskId.__metadata__[0].pattern, found)  # type: ignore[attr-defined]
    assert found.endswith(f":20261125T030000.123Z:{worker}")
    assert found == rules.task_id(key, "20261125T030000.123Z", worker)
    assert found != rules.task_id(f"{key[:-1]}-", "20261125T030000.123Z", worker) or key.endswith("-")


def test_a_firing_that_cannot_run_is_worth_it_until_the_next() -> None:
    assert rules.worth_seconds(job(every=MINUTE), NOON) == 60
    assert rules.worth_seconds(replace(job(), end_ms=NOON), NOON) is None
