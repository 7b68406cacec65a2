"""How tasks look in the API."""

from __future__ import annotations

from broker.messages import TaskSpec
from hub.api.shapes import timeline
from hub.rules.task import Attempt, AttemptState, new_task
from hub.store.queries import InFull


def test_a_clock_that_is_a_little_off_does_not_turn_the_steps_of_an_attempt_round() -> None:
    task = new_task(TaskSpec(kind="noop"), "t", via="http", site=None, pinned=None, now=1000)
    early = Attempt(
        1,
        "w1",
        AttemptState.SUCCEEDED,
        assigned_ms=1010,
        accepted_ms=1003,
        started_ms=1004,
        finished_ms=1020,
        error_ms=9,
    )
    other = Attempt(2, "w2", AttemptState.ASSIGNED, assigned_ms=1015)

    shown = timeline(InFull(task, [early, other], []))

    assert [(step["event"], step.get("worker")) for step in shown] == [
        ("created", None),
        ("assigned", "w1"),
        ("accepted", "w1"),
        ("started", "w1"),
        ("assigned", "w2"),
        ("succeeded", "w1"),
    ]
    assert str(shown[2]["at"]).endswith("01.003Z")  # as the worker told it
