"""Schedules: lists of steps, each a rule and its dice. They are drawn from a seed, played, and made shorter."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from broker.messages import Outcome
from edge_agent.rules.eviction import Class
from tests.model.mutants import NONE
from tests.model.witness import Broken
from tests.model.world import COMMON, NAMES, RARE, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model.mutants import Mutant

STEPS = 50
DURATIONS_MS = (200, 1_000, 3_000, 11_000, 35_000, 100_000)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: which rule, and what decides the rest of it."""

    rule: str
    dice: int


def _submit(world: World, dice: Random) -> None:
    world.submit(_spec(world, dice), pinned=dice.choice([None, None, *NAMES]))


def _inject(world: World, dice: Random) -> None:
    world.inject(_spec(world, dice), named=dice.random() < 0.7, pinned=dice.choice([None, None, None, *NAMES]))


def _spec(world: World, dice: Random):  # noqa: ANN202
    return world.spec(
        idempotent=dice.random() < 0.4,
        kind=RARE if dice.random() < 0.1 else COMMON,
        tries=dice.choice([1, 1, 3]),
        expires=dice.random() < 0.1,
    )


def _moves(world: World, dice: Random) -> None:
    for _ in range(dice.randrange(1, 12)):
        world.move()


def _time(world: World, dice: Random) -> None:
    world.pass_time(dice.choice(DURATIONS_MS))


def _finish(world: World, dice: Random) -> None:
    executing = world.executing()
    if executing:
        worker, ref = dice.choice(executing)
        worker.finish(ref, dice.choice([Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT]))


def _progress(world: World, dice: Random) -> None:
    executing = world.executing()
    if executing:
        worker, ref = dice.choice(executing)
        worker.progress(ref)


def _on_a_line(do: str) -> Callable[[World, Random], None]:
    def rule(world: World, dice: Random) -> None:
        if world.broker.lines:
            line = dice.choice(world.broker.lines)
            target = world.broker if hasattr(world.broker, do) else world
            getattr(target, do)(line)

    return rule


def _on_a_worker(do: str) -> Callable[[World, Random], None]:
    def rule(world: World, dice: Random) -> None:
        getattr(world, do)(dice.choice(NAMES))

    return rule


def _freeze(world: World, dice: Random) -> None:
    process = dice.choice([world.hub, *world.workers.values()])
    if process is not None:
        process.frozen = not process.frozen


def _evict(world: World, dice: Random) -> None:
    world.evict(dice.choice(NAMES), dice.choice([Class.PROGRESS, Class.PROGRESS, Class.RESULTS]))


RULES: dict[str, tuple[int, Callable[[World, Random], None]]] = {
    "submit": (10, _submit),
    "inject": (10, _inject),
    "moves": (20, _moves),
    "settle": (10, lambda world, _: world.settle()),
    "time": (12, _time),
    "finish": (10, _finish),
    "progress": (2, _progress),
    "cut": (4, _on_a_line("cut")),
    "half_open": (2, _on_a_line("half_open")),
    "stall": (3, _on_a_line("stall")),
    "unstall": (3, lambda world, _: world.unstall()),
    "lose_message": (4, _on_a_line("lose_message")),
    "double_message": (3, _on_a_line("double_message")),
    "crash_worker": (4, _on_a_worker("crash_worker")),
    "start_worker": (6, _on_a_worker("start_worker")),
    "crash_hub": (3, lambda world, _: world.crash_hub()),
    "start_hub": (5, lambda world, _: world.start_hub()),
    "crash_broker": (1, lambda world, dice: world.crash_broker(wipe=dice.random() < 0.5)),
    "start_broker": (4, lambda world, _: world.start_broker()),
    "freeze": (3, _freeze),
    "evict": (1, _evict),
    "lose_disk": (1, _on_a_worker("lose_disk")),
    "snapshot": (1, _on_a_worker("snapshot")),
    "rewind": (1, _on_a_worker("rewind")),
}
_NAMES = list(RULES)
_WEIGHTS = [weight for weight, _ in RULES.values()]


def draw(seed: int, steps: int = STEPS, without: frozenset[str] = frozenset()) -> list[Step]:
    """Return the schedule of a seed."""
    dice = Random(seed)  # noqa: S311
    rules = dice.choices(_NAMES, _WEIGHTS, k=steps)
    return [Step(rule, dice.getrandbits(32)) for rule in rules if rule not in without]


def play(schedule: list[Step], mutant: Mutant = NONE) -> World:
    """Play a schedule to its end. Raises `Broken`."""
    world = World(mutant=mutant)
    for step in schedule:
        world.dice.seed(step.dice)
        world.witness.tell("%s", step)
        RULES[step.rule][1](world, world.dice)
    world.dice.seed(0)
    world.heal()
    return world


def shorten(schedule: list[Step], mutant: Mutant = NONE) -> tuple[list[Step], Broken]:
    """Return the shortest schedule that can be found by leaving steps out, and how it breaks."""
    broken = _breaks(schedule, mutant)
    if broken is None:
        raise ValueError("this schedule breaks nothing")
    size = max(1, len(schedule) // 2)
    while True:
        start = 0
        while start < len(schedule):
            shorter = schedule[:start] + schedule[start + size :]
            found = _breaks(shorter, mutant)
            if found is None:
                start += size
            else:
                schedule, broken = shorter, found
        if size == 1:
            return schedule, broken
        size = max(1, size // 2)


def _breaks(schedule: list[Step], mutant: Mutant) -> Broken | None:
    try:
        play(schedule, mutant)
    except Broken as broken:
        return broken
    return None
