"""Which schedules concern a worker, and by which revision that is known."""

from __future__ import annotations

from typing import Any

import pytest

from broker.messages import NO_REVISION, ScheduleJob, Schedules, TaskSpec
from hub.rules.schedules import Schedule, concerning, order_of, whom_it_may_concern


def schedule(name: str, site: str | None = None, worker: str | None = None, **more: Any) -> Schedule:  # noqa: ANN401
    job = ScheduleJob(name=name, **{"every_seconds": 60.0, "task": TaskSpec(kind="noop"), **more})
    return Schedule(job, site, worker, 1, 2)


def order_for(schedules: list[Schedule], worker: str, site: str) -> Schedules:
    return order_of(concerning(schedules, worker, site))


@pytest.mark.parametrize(
    ("site", "worker", "concerns"),
    [
        (None, None, True),
        ("site-a", None, True),
        ("site-b", None, False),
        (None, "w1", True),
        (None, "w2", False),
        ("site-a", "w1", True),
        ("site-b", "w1", False),
    ],
)
def test_a_schedule_concerns_whom_site_and_worker_say(site: str | None, worker: str | None, concerns: bool) -> None:  # noqa: FBT001
    assert schedule("j", site, worker).concerns("w1", "site-a") is concerns


def test_an_order_is_by_name_and_without_what_is_not_enabled() -> None:
    order = order_for([schedule("b"), schedule("a"), schedule("c", enabled=False)], "w1", "site-a")

    assert [job.name for job in order.jobs] == ["a", "b"]


def test_a_revision_is_that_of_the_content_whatever_was_said_when() -> None:
    one = order_for([schedule("a"), schedule("b")], "w1", "site-a")

    assert one.revision == order_for([schedule("b"), schedule("a")._replace(changed_ms=9)], "w2", "site-b").revision
    assert one.revision != order_for([schedule("a")], "w1", "site-a").revision
    assert one.revision != order_for([schedule("a"), schedule("b", overlap="queue")], "w1", "site-a").revision
    assert order_for([schedule("a", "site-b")], "w1", "site-a").revision == NO_REVISION


def test_what_is_told_again_is_as_what_was_told() -> None:
    assert schedule("a").is_as(schedule("a")._replace(changed_ms=9))
    assert not schedule("a").is_as(schedule("a", "site-a"))
    assert not schedule("a").is_as(schedule("a", misfire="once"))


def test_whom_it_may_concern_is_every_set_that_it_may_be_part_of() -> None:
    others = [schedule("a", "site-a"), schedule("b", "site-b"), schedule("c", None, "w1")]

    assert whom_it_may_concern(schedule("new"), others) == {("", ""), ("", "site-a"), ("", "site-b"), ("w1", "")}
    assert whom_it_may_concern(schedule("new", "site-a"), others) == {("", "site-a"), ("w1", "site-a")}
