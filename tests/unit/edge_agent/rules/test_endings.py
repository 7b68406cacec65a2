"""What is told of an attempt's end, and to whom."""

from __future__ import annotations

import pytest

from broker.messages import Outcome, Retry, TaskSpec
from edge_agent.rules.attempts import Ending, Held, Ref
from edge_agent.rules.endings import is_last


def held(attempt: int, *, tries: int, idempotent: bool = True) -> Held:
    spec = TaskSpec(kind="noop", idempotent=idempotent, retry=Retry(max_attempts=tries))
    return Held(Ref("t", attempt), spec, "digest", accepted_at=0)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED])
def test_who_asked_is_not_answered_while_there_is_another_try(outcome: Outcome) -> None:
    assert not is_last(held(1, tries=2), Ending(outcome))
    assert is_last(held(2, tries=2), Ending(outcome))
    assert is_last(held(1, tries=1), Ending(outcome))
    assert is_last(held(1, tries=2, idempotent=False), Ending(outcome))


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.CANCELLED, Outcome.EXPIRED])
def test_what_is_not_tried_again_is_answered_at_once(outcome: Outcome) -> None:
    assert is_last(held(1, tries=5), Ending(outcome))
