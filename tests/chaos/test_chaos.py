"""A short run of `make chaos`: everything breaks for a while, and every promise is kept."""

from __future__ import annotations

import os

import pytest

from tests.chaos.run import faketime, impossible, run

SEED = 1
SECONDS = 30.0
RATE = 30.0
"""Less than by hand, for a machine that has other tests to run."""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_is_lost_or_done_twice_while_everything_breaks() -> None:
    if os.environ.get("HOLDFAST_REQUIRE_ALL"):
        assert not impossible(faketime()), "CI must be able to break everything"
    result = await run(SEED, SECONDS, rate=RATE)
    assert not result.violations, f"{result.histories}\n\n{result.summary}"
    evidence = result.evidence
    assert len(evidence.wounds) >= SECONDS / 3
    assert sum(task.state == "succeeded" for task in evidence.tasks.values()) > 0.9 * SECONDS * RATE
    assert evidence.runs
    assert evidence.ends
    assert evidence.facts
