"""A model of leases and sync: schedules of work and faults, against the promises of docs/faults.md.

The hub in it is the product's own, on a database of values (`store.py`); of the agent the rules are (`worker.py`). The
network is `broker.py`, and `witness.py` compares what is seen with what is promised.

`MODEL_SECONDS=600 MODEL_SEED=7 pytest tests/model` looks for longer, from another seed on.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from broker.messages import WorkerStarted
from tests.model import moves
from tests.model.mutants import MUTANTS, Mutant
from tests.model.schedule import RULES, Step, breaks, draw, draw_like, play, shorten, take
from tests.model.store import on_values
from tests.model.witness import Broken
from tests.model.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = float(os.environ.get("MODEL_SECONDS", "0"))
SEED = int(os.environ.get("MODEL_SEED", "0"))
SCHEDULES = 300
"""How many are played where no time is given."""

EXAMPLES = 100
STEPS = 40

TRIES = 1500
"""In so many schedules that follow its outline each mutant must be noticed. Most are in the first hundred."""

pytestmark = pytest.mark.timeout(300 + 2 * SECONDS)


@pytest.fixture(autouse=True)
def hub_on_values() -> Iterator[None]:
    with on_values():
        yield


def seeds() -> Iterator[int]:
    """Yield seeds, until there were enough of them."""
    end = time.monotonic() + SECONDS
    seed = SEED
    while time.monotonic() < end if SECONDS else seed < SEED + SCHEDULES:
        yield seed
        seed += 1


def test_no_schedule_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    began, played = time.monotonic(), 0
    for seed in seeds():
        if breaks(draw(seed)) is not None:
            steps, broken = shorten(draw(seed))
            pytest.fail(f"seed {seed}, made shorter to {len(steps)} steps {steps}:\n\n{broken}", pytrace=False)
        played += 1
    with capsys.disabled() if SECONDS else contextlib.nullcontext():
        pace = 60 * played / (time.monotonic() - began)
        sys.stdout.write(f" {played} schedules from seed {SEED}, {pace:,.0f} a minute ")


class Schedules(RuleBasedStateMachine):
    """The same world, driven by hypothesis, which finds its own mixtures and makes what breaks shorter."""

    def __init__(self) -> None:
        super().__init__()
        self._world = World()

    @rule(name=st.sampled_from(list(RULES)), dice=st.integers(0, 2**32 - 1))
    def step(self, name: str, dice: int) -> None:
        take(self._world, Step(name, dice))

    def teardown(self) -> None:
        self._world.dice.seed(0)
        self._world.heal()


def search_with_hypothesis(*phases: Phase) -> None:
    run_state_machine_as_test(
        Schedules,
        settings=settings(
            max_examples=max(EXAMPLES, round(5 * SECONDS)),
            stateful_step_count=STEPS,
            derandomize=not SECONDS,
            database=None,
            deadline=None,
            phases=phases or tuple(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_hypothesis_finds_no_schedule_that_breaks_a_promise() -> None:
    search_with_hypothesis()


def test_hypothesis_finds_what_is_wrong() -> None:
    mutant = next(one for one in MUTANTS if one.name == "a batch counts again")
    with mutant.apply(), pytest.raises(Broken):
        search_with_hypothesis(Phase.generate)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_model_notices(mutant: Mutant) -> None:
    with mutant.apply():
        found = any(breaks(draw_like(mutant.outline, seed)) for seed in range(TRIES))
    assert found, f"nobody notices that {mutant.name}"


def test_what_breaks_is_told_as_a_short_story() -> None:
    mutant = next(one for one in MUTANTS if one.name == "what was not accepted goes elsewhere, whatever it is")
    with mutant.apply():
        seed = next(seed for seed in range(TRIES) if breaks(draw(seed)))
        steps, broken = shorten(draw(seed))
        assert len(steps) < len(draw(seed)) / 2
        assert all(breaks([*steps[:number], *steps[number + 1 :]]) is None for number in range(len(steps)))
    first, *story = str(broken).splitlines()
    assert "it may not run twice" in first
    assert any("BEGINS" in line for line in story)
    assert any(str(steps[0]) in line for line in story)
    play(steps)  # the rule itself is kept by what is not broken on purpose


def test_a_new_hello_takes_back_what_an_earlier_one_showed() -> None:
    """Else a task that was offered to the new intake would be placed, since the old one is closed, and run twice."""
    world = World()
    worker, hub = world.workers["w1"], world.hub
    assert worker is not None
    assert worker.main is not None
    assert hub is not None
    known = hub.fleet.get("w1")
    assert known is not None
    assert known.synced is not None
    world.broker.cut(worker.main)
    worker.on_main_down()
    worker.journal.post([WorkerStarted(at=world.now, boot="told before the hello, and not committed by the hub")])
    worker.writer.commit()
    worker.writer.go_on()
    worker.connect()
    world.broker.route_next(worker.main)
    while known.unsynced is None:
        _, receive = next(one for one in moves.of_hub(world, hub) if one[0] == "receives")
        receive()
    assert known.synced is None
