"""Which attempt's log is meant, and why there is none."""

from __future__ import annotations

import pytest

from broker.messages import LogPart, TaskSpec
from hub.rules.logs import choose, why_none
from hub.rules.task import Attempt, AttemptState, new_task

TASK = new_task(TaskSpec(kind="noop"), "t1", via="http", site="site-a", pinned=None, now=0)
NONE = LogPart(request="r")

FIRST = Attempt(1, "w1", AttemptState.LOST)
TWIN = Attempt(1, "w2", AttemptState.RUNNING)
SECOND = Attempt(2, "w2", AttemptState.SUCCEEDED, finished_ms=1000, error_ms=10)
DECLINED = Attempt(3, "w3", AttemptState.DECLINED)


@pytest.mark.parametrize(
    ("attempts", "number", "worker", "chosen"),
    [
        ([FIRST, SECOND, DECLINED], None, None, SECOND),
        ([FIRST, SECOND, DECLINED], 3, None, DECLINED),
        ([FIRST, TWIN], 1, "w1", FIRST),
        ([FIRST, TWIN], 1, None, TWIN),
        ([DECLINED], None, None, DECLINED),
        ([FIRST], 2, None, None),
        ([FIRST], None, "w2", None),
        ([], None, None, None),
    ],
)
def test_the_attempt_that_is_asked_for_or_else_the_last_that_began(
    attempts: list[Attempt], number: int | None, worker: str | None, chosen: Attempt | None
) -> None:
    assert choose(TASK, attempts, number, worker) == chosen


def test_the_tasks_own_attempt_goes_before_a_later_one() -> None:
    ended = TASK._replace(attempt=1, worker="w1")
    assert choose(ended, [FIRST, SECOND]) == FIRST


@pytest.mark.parametrize(
    ("attempt", "dropped_until_ms", "said"),
    [
        (Attempt(1, "w1", AttemptState.ASSIGNED), None, "attempt 1 at w1 has not begun: it is assigned"),
        (DECLINED, 5000, "attempt 3 at w3 never began: it was declined"),
        (SECOND, None, "attempt 2 at w2 wrote nothing"),
        (SECOND, 989, "attempt 2 at w2 wrote nothing"),
        (SECOND, 990, "attempt 2 at w2 has no log any more: if it wrote one, it was dropped to make room"),
        (FIRST, 1, "attempt 1 at w1 has no log any more"),
    ],
)
def test_why_there_is_none(attempt: Attempt, dropped_until_ms: int | None, said: str) -> None:
    assert why_none(attempt, NONE, dropped_until_ms).startswith(said)


def test_what_may_still_write_has_written_nothing_yet() -> None:
    assert why_none(TWIN, LogPart(request="r", open=True), None) == "attempt 1 at w2 has written nothing yet"
