"""Schedules: lists of steps, each a rule and its dice. They are drawn from a seed, played, and made shorter."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from broker.messages import Outcome
from edge_agent.rules.eviction import Class
from hub.rules.actions import Cancel, Resolve, Retry
from hub.rules.task import ENDED, TaskState
from tests.model import faults
from tests.model.witness import Broken
from tests.model.world import COMMON, NAMES, RARE, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker.messages import TaskSpec
    from hub.rules.actions import Action
    from tests.model.broker import Line

    Rule = Callable[[World, Random], None]

STEPS = 50
ENDS = (Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT)
DURATIONS_MS = (200, 1_000, 3_000, 11_000, 35_000, 100_000)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: which rule, and what decides the rest of it."""

    rule: str
    dice: int


def _spec(world: World, dice: Random) -> TaskSpec:
    return world.spec(
        idempotent=dice.random() < 0.4,
        kind=RARE if dice.random() < 0.1 else COMMON,
        tries=dice.choice([1, 1, 3]),
        expires=dice.random() < 0.1,
    )


def _submit(world: World, dice: Random) -> None:
    world.submit(_spec(world, dice), pinned=dice.choice([None, None, *NAMES]))


def _inject(world: World, dice: Random) -> None:
    world.inject(_spec(world, dice), named=dice.random() < 0.7, pinned=dice.choice([None, None, None, *NAMES]))


def _act(world: World, dice: Random) -> None:
    """Let a person do something to a task."""
    cases = list(world.database.cases.values())
    if cases and world.hub is not None and not world.hub.frozen:
        task = dice.choice(cases).task
        actions: list[Action] = [Cancel(), Cancel(), Retry(), Resolve(TaskState.SUCCEEDED)]
        action = dice.choice(actions)
        if not isinstance(action, Retry) or task.state in ENDED | {TaskState.UNKNOWN}:
            world.act(task, action)


def _moves(world: World, dice: Random) -> None:
    for _ in range(dice.randrange(1, 12)):
        world.move()


def _time(world: World, dice: Random) -> None:
    world.pass_time(dice.choice(DURATIONS_MS))


def _finish(world: World, dice: Random) -> None:
    executing = world.executing()
    if executing:
        worker, ref = dice.choice(executing)
        worker.runner.finish(ref, dice.choice(ENDS))


def _progress(world: World, dice: Random) -> None:
    executing = world.executing()
    if executing:
        worker, ref = dice.choice(executing)
        worker.runner.progress(ref)


def _on_a_line(do: Callable[[World, Line], None]) -> Rule:
    def rule(world: World, dice: Random) -> None:
        if world.broker.lines:
            do(world, dice.choice(world.broker.lines))

    return rule


def _on_a_worker(do: Callable[[World, str], None]) -> Rule:
    return lambda world, dice: do(world, dice.choice(NAMES))


def _freeze(world: World, dice: Random) -> None:
    process = dice.choice([world.hub, *world.workers.values()])
    if process is not None:
        process.frozen = not process.frozen


def _evict(world: World, dice: Random) -> None:
    faults.evict(world, dice.choice(NAMES), dice.choice([Class.PROGRESS, Class.PROGRESS, Class.RESULTS]))


def _start_broker(world: World, _: Random) -> None:
    world.broker.up = True


RULES: dict[str, tuple[int, Rule]] = {
    "submit": (10, _submit),
    "inject": (10, _inject),
    "act": (2, _act),
    "moves": (20, _moves),
    "settle": (10, lambda world, _: world.settle()),
    "time": (12, _time),
    "finish": (10, _finish),
    "progress": (2, _progress),
    "beat": (1, _on_a_worker(faults.beat)),
    "cut": (4, _on_a_line(lambda world, line: world.broker.cut(line))),
    "half_open": (2, _on_a_line(lambda world, line: world.broker.half_open(line))),
    "stall": (3, _on_a_line(faults.stall)),
    "unstall": (3, lambda world, _: world.silent.clear()),
    "lose_message": (4, _on_a_line(faults.lose_message)),
    "double_message": (3, _on_a_line(faults.double_message)),
    "delay_heartbeat": (2, lambda world, _: faults.delay_heartbeat(world)),
    "crash_worker": (4, _on_a_worker(faults.crash_worker)),
    "start_worker": (6, _on_a_worker(lambda world, name: world.start_worker(name))),
    "stop_worker": (1, _on_a_worker(faults.stop_worker)),
    "interrupt_worker": (1, _on_a_worker(faults.interrupt_worker)),
    "crash_hub": (3, lambda world, _: faults.crash_hub(world)),
    "start_hub": (5, lambda world, _: world.start_hub()),
    "crash_broker": (1, lambda world, dice: faults.crash_broker(world, wipe=dice.random() < 0.5)),
    "start_broker": (4, _start_broker),
    "freeze": (3, _freeze),
    "evict": (1, _evict),
    "lose_disk": (1, _on_a_worker(faults.lose_disk)),
    "back_up": (1, _on_a_worker(faults.back_up)),
    "restore": (1, _on_a_worker(faults.restore)),
    "back_up_hub": (1, lambda world, _: faults.back_up_hub(world)),
    "restore_hub": (1, lambda world, _: faults.restore_hub(world)),
}
_ALWAYS = frozenset({"submit", "inject", "moves", "settle", "time", "finish"})
_MOODS = (0, 0, 1, 1, 4)
"""How much more than usual a schedule likes a rule: most have few kinds of faults, some of them often.

It is swarm testing (Groce and others, 2012): what hides in a mixture of everything shows where much is left out.
"""


def take(world: World, step: Step) -> None:
    """Take one step in a world."""
    world.dice.seed(step.dice)
    world.witness.story.tell("%s", step)
    RULES[step.rule][1](world, world.dice)


def draw(seed: int) -> list[Step]:
    """Return the schedule of a seed."""
    dice = Random(seed)  # noqa: S311  a model, not a lock
    weights = {name: weight * _mood(name, dice) for name, (weight, _) in RULES.items()}
    return _with_dice(dice.choices(list(weights), list(weights.values()), k=STEPS), dice)


def draw_like(outline: str, seed: int) -> list[Step]:
    """Return a schedule that follows an outline, which is names of rules in order; the seed decides the rest."""
    return _with_dice(outline.split(), Random(seed))  # noqa: S311


def _with_dice(rules: Iterable[str], dice: Random) -> list[Step]:
    return [Step(rule, dice.getrandbits(32)) for rule in rules]


def _mood(rule: str, dice: Random) -> int:
    return 1 if rule in _ALWAYS else dice.choice(_MOODS)


def play(schedule: list[Step]) -> World:
    """Play a schedule to its end. Raises `Broken`."""
    world = World()
    for step in schedule:
        take(world, step)
    world.dice.seed(0)
    world.heal()
    return world


def shorten(schedule: list[Step]) -> tuple[list[Step], Broken]:
    """Return the shortest schedule that can be found by leaving steps out, and how it breaks.

    It is delta debugging (Zeller 1999): halves go first, then ever smaller pieces, until no single step can go.
    """
    broken = breaks(schedule)
    if broken is None:
        raise ValueError("this schedule breaks nothing")
    size = max(1, len(schedule) // 2)
    while True:
        start, before = 0, len(schedule)
        while start < len(schedule):
            shorter = schedule[:start] + schedule[start + size :]
            found = breaks(shorter)
            if found is None:
                start += size
            else:
                schedule, broken = shorter, found
        if size == 1 and len(schedule) == before:
            return schedule, broken
        size = max(1, size // 2)


def breaks(schedule: list[Step]) -> Broken | None:
    """Return how a schedule breaks a promise, if it does."""
    try:
        play(schedule)
    except Broken as broken:
        return broken
    return None
