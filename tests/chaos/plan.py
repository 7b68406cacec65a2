"""What breaks, when and for how long: a pure function of the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.chaos.city import BROKER, HUB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.chaos.city import City

FAULTS_A_SECOND = 0.55
CALM_SECONDS = 3.0
"""Nothing breaks before work goes on, and nothing new close before the end."""

REST_SECONDS = (0.5, 4.0)
"""How long what was broken is left alone afterwards, at least: something must be achieved for it to be lost."""


class Kind(StrEnum):
    """What can break. The first word says how, the second what."""

    KILL_AGENT = "kill agent"
    STOP_AGENT = "stop agent"
    FREEZE_AGENT = "freeze agent"
    CUT_AGENT = "cut agent"
    HUSH_AGENT = "hush agent"
    CUT_SITE = "cut site"
    BLOCK_MQTT = "block mqtt"
    KILL_HUB = "kill hub"
    FREEZE_HUB = "freeze hub"
    CUT_HUB = "cut hub"
    KILL_BROKER = "kill broker"
    FREEZE_BROKER = "freeze broker"
    WIPE_BROKER = "wipe broker"
    FILL_DISK = "fill disk"
    CORRUPT_JOURNAL = "corrupt journal"
    WIPE_AGENT = "wipe agent"
    STEP_CLOCK = "step clock"


class Part(StrEnum):
    """What of a thing is broken: of each only one at a time is."""

    PROCESS = "process"
    LINK = "link"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that breaks, and is healed again.

    Attributes:
        number: Its place in the plan, from 1.
        at: When, in seconds from the beginning.
        seconds: How long.
        target: A worker, a site, `hub` or `broker`.
        dice: From 0 to 1: whatever else must be chosen when it is done.

    """

    number: int
    at: float
    kind: Kind
    target: str
    seconds: float
    dice: float

    def __str__(self) -> str:
        return f"#{self.number} at {self.at:.1f} s: {self.kind} {self.target} for {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Trait:
    """How often a kind comes, for how long, and what it takes.

    Attributes:
        weight: How often, beside the others.
        short: From and to, in seconds: what is usual.
        long: The same for every fourth: past the time after which a lease is lost.

    """

    weight: float
    short: tuple[float, float]
    long: tuple[float, float]
    part: Part = Part.PROCESS


TRAITS: Mapping[Kind, Trait] = {
    Kind.KILL_AGENT: Trait(16, (0.1, 2.0), (4.0, 9.0)),
    Kind.STOP_AGENT: Trait(6, (0.1, 1.0), (4.0, 6.0)),
    Kind.FREEZE_AGENT: Trait(12, (0.2, 2.0), (5.0, 11.0)),
    Kind.CUT_AGENT: Trait(12, (0.1, 2.0), (4.0, 10.0), Part.LINK),
    Kind.HUSH_AGENT: Trait(8, (0.3, 3.0), (5.0, 12.0), Part.LINK),
    Kind.CUT_SITE: Trait(5, (0.3, 3.0), (4.0, 9.0), Part.LINK),
    Kind.BLOCK_MQTT: Trait(3, (34.0, 38.0), (40.0, 50.0), Part.LINK),
    Kind.KILL_HUB: Trait(6, (0.1, 1.0), (2.0, 5.0)),
    Kind.FREEZE_HUB: Trait(4, (0.3, 2.5), (3.0, 7.0)),
    Kind.CUT_HUB: Trait(5, (0.1, 1.0), (2.0, 5.0), Part.LINK),
    Kind.KILL_BROKER: Trait(6, (0.1, 1.0), (2.0, 5.0)),
    Kind.FREEZE_BROKER: Trait(3, (0.3, 2.0), (3.0, 6.0)),
    Kind.WIPE_BROKER: Trait(4, (0.1, 1.0), (2.0, 4.0)),
    Kind.FILL_DISK: Trait(6, (1.0, 4.0), (5.0, 10.0)),
    Kind.CORRUPT_JOURNAL: Trait(5, (0.1, 1.0), (3.0, 5.0)),
    Kind.WIPE_AGENT: Trait(3, (0.1, 1.0), (3.0, 6.0)),
    Kind.STEP_CLOCK: Trait(5, (0.1, 1.0), (1.0, 3.0), Part.CLOCK),
}

Resource = tuple[str, Part]


def targets(kind: Kind, city: City) -> tuple[str, ...]:
    """Return what can be broken that way."""
    match kind.split()[-1]:
        case "hub":
            return (HUB,)
        case "broker":
            return (BROKER,)
        case "site":
            return city.sites
        case "disk":
            wanted = [place.small_disk for place in city.places]
        case "clock":
            wanted = [place.own_clock for place in city.places]
        case _:
            wanted = [True for _ in city.places]
    return tuple(place.name for place, is_wanted in zip(city.places, wanted, strict=True) if is_wanted)


def resources(fault: Fault, city: City) -> tuple[Resource, ...]:
    """Return what a fault has to itself while it lasts, in the order in which it must be taken."""
    part = TRAITS[fault.kind].part
    if fault.kind is Kind.CUT_SITE:
        return tuple((place.name, part) for place in city.of_site(fault.target))
    return ((fault.target, part),)


def plan_faults(seed: int, seconds: float, city: City, *, without: Iterable[Kind] = ()) -> list[Fault]:
    """Return the faults of a run of so many seconds, in order; the same seed gives the same."""
    dice = random.Random(f"faults:{seed}")  # noqa: S311  it is to be repeated
    kinds = [kind for kind in Kind if kind not in set(without) and targets(kind, city)]
    busy: dict[Resource, float] = {}
    faults: list[Fault] = []
    at = CALM_SECONDS
    while at < seconds - CALM_SECONDS:
        fault = _choose(len(faults) + 1, at, kinds, city, dice, latest=seconds)
        wanted = resources(fault, city)
        if all(busy.get(resource, 0.0) <= at for resource in wanted):
            faults.append(fault)
            for resource in wanted:
                busy[resource] = at + fault.seconds + dice.uniform(*REST_SECONDS)
            at += dice.uniform(0.2, 1.8) / FAULTS_A_SECOND
    return faults


def _choose(number: int, at: float, kinds: list[Kind], city: City, dice: random.Random, *, latest: float) -> Fault:
    (kind,) = dice.choices(kinds, [TRAITS[kind].weight for kind in kinds])
    target = dice.choice(targets(kind, city))
    trait = TRAITS[kind]
    lasts = dice.uniform(*(trait.long if dice.random() < 0.25 else trait.short))
    return Fault(number, round(at, 3), kind, target, round(min(lasts, latest - at), 3), dice.random())
