"""Jobs as a worker runs them: from a file or the hub, and from a handler's own timer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from broker.messages import ScheduleJob, TaskSpec
from edge_agent import Agent, TaskContext
from edge_agent.errors import PluginError
from edge_agent.rules.timing import Every
from edge_agent.schedule.jobs import job_of, job_of_timer

MIDNIGHT = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000


def written(**more: object) -> ScheduleJob:
    body = {"name": "j", "cron": "0 3 * * *", "task": TaskSpec(kind="noop", labels={"team": "infra"})}
    return ScheduleJob.model_validate({**body, **more})


def test_a_job_has_its_source_and_name_as_key_and_as_label() -> None:
    job = job_of(written(), "file", "w1")

    assert job.key == "file:j"
    assert job.spec.labels == {"schedule": "file:j", "team": "infra"}
    mine = job_of(written(task=TaskSpec(kind="noop", labels={"schedule": "mine"})), "hub", "w1")
    assert mine.spec.labels == {"schedule": "mine"}


def test_times_are_those_of_its_zone_from_its_start_to_its_end() -> None:
    start, end = "2026-12-02T00:00:00Z", "2026-12-03T02:00:00Z"
    dates = {"start": datetime.fromisoformat(start), "end": datetime.fromisoformat(end)}
    job = job_of(written(timezone="Europe/Berlin", **dates), "file", "w1")

    assert job.after(MIDNIGHT) == MIDNIGHT + 26 * HOUR
    assert job.after(MIDNIGHT + 26 * HOUR) == MIDNIGHT + 50 * HOUR
    assert job.after(MIDNIGHT + 50 * HOUR) is None


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
@pytest.mark.parametrize("field", ["start", "end"])
def test_a_time_at_the_end_of_the_calendar_is_refused_before_it_stops_an_agent(field: str, at: str) -> None:
    with pytest.raises(ValidationError, match="a time from 1970 to 2999"):
        ScheduleJob.model_validate_json(
            json.dumps({"name": "j", "cron": "* * * * *", field: at, "task": {"kind": "noop"}})
        )


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("start", ["1970-01-01T00:00:00+14:00", "2999-12-31T23:59:59-12:00"])
def test_a_calendar_goes_as_far_as_a_start_may_be(start: str, timezone: str) -> None:
    job = job_of(written(cron="* * * * *", timezone=timezone, start=datetime.fromisoformat(start)), "hub", "w1")

    found = job.after(MIDNIGHT)
    assert found is not None
    assert found > MIDNIGHT
    assert job.latest(found - 1, found) == found


def test_its_version_is_that_of_its_times_and_of_nothing_else() -> None:
    version = job_of(written(), "file", "w1").version

    assert job_of(written(overlap="queue", task=TaskSpec(kind="sleep")), "file", "w1").version == version
    assert job_of(written(cron="0 4 * * *"), "file", "w1").version != version
    assert job_of(written(timezone="Europe/Berlin"), "file", "w1").version != version


def test_a_timer_of_a_handler_begins_anew_and_a_calendar_of_one_is_kept() -> None:
    agent = Agent()

    @agent.every(minutes=5)
    async def disk(_ctx: TaskContext) -> None: ...

    @agent.cron("0 3 * * *", misfire="once")
    async def clean(_ctx: TaskContext) -> None: ...

    every, cron = map(job_of_timer, agent.timers)
    assert (every.key, every.is_kept, every.timing, every.overlap) == ("code:disk", False, Every(300_000), "skip")
    assert (cron.key, cron.is_kept, cron.misfire) == ("code:clean", True, "once")
    assert cron.after(MIDNIGHT) == MIDNIGHT + 3 * HOUR
    assert replace(every, spec=cron.spec) != cron


@pytest.mark.parametrize(
    ("expression", "timezone", "told"),
    [("0 3 * *", "UTC", "expected five fields"), ("0 3 * * *", "Mars/Base", "a time zone that this host knows")],
)
def test_a_calendar_that_cannot_be_understood_is_refused_where_it_stands(
    expression: str, timezone: str, told: str
) -> None:
    with pytest.raises(PluginError, match=told):
        Agent().cron(expression, timezone=timezone)
