"""What a worker is to a task, by the fleet as it is now, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from hub.rules.placement.limits import Usage
from hub.rules.placement.place import misfit

if TYPE_CHECKING:
    from hub.rules.placement.limits import Cap
    from hub.rules.placement.place import Place, Shape

DECLINED = "it has declined it, and has said no hello since"


class Verdict(StrEnum):
    """What a worker is to a task, by the fleet as it is now."""

    CHOSEN = "chosen"
    COULD = "could"
    BUSY = "busy"
    FULL = "full"
    LIMITED = "limited"
    DECLINED = "declined"
    OFFLINE = "offline"
    LEFT_OUT = "left_out"
    MISFIT = "misfit"


class Judged(NamedTuple):
    """What a worker is to a task, and why."""

    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Bar:
    """What keeps a task from workers that it fits: those that have declined it, and limits.

    Attributes:
        task: The task, which does not keep itself from anybody where it counts already.

    """

    kept_from: frozenset[str] = frozenset()
    caps: tuple[Cap, ...] = ()
    usage: Usage = field(default_factory=Usage)
    task: str = ""

    def reached(self, place: Place) -> Cap | None:
        """Return a limit that is reached at a place."""
        return next((cap for cap in self.caps if not self.usage.is_open(cap, place, but=self.task)), None)


NO_BAR = Bar()


def verdict(shape: Shape, place: Place, bar: Bar = NO_BAR) -> Judged:
    """Return what `place` is to tasks of `shape`, and why: what is hardest to change comes first."""
    unfit = misfit(shape, place)
    if unfit:
        return Judged(Verdict.MISFIT, "; ".join(unfit))
    if not place.online:
        return Judged(Verdict.OFFLINE, "it is not online")
    return _of_able(place, bar)


def _of_able(place: Place, bar: Bar) -> Judged:
    if place.worker in bar.kept_from:
        return Judged(Verdict.DECLINED, DECLINED)
    if place.storage_full:
        return Judged(Verdict.FULL, "its disk is full")
    cap = bar.reached(place)
    if cap is not None:
        return Judged(Verdict.LIMITED, f'limit "{cap_said(cap)}" is reached')
    if place.room <= 0:
        return Judged(Verdict.BUSY, f"it has {place.in_flight} tasks for {_count(place.slots, 'slot')}")
    free = max(place.slots - place.in_flight, 0)
    queue = "" if free else f", and room for {place.room} in its queue"
    return Judged(Verdict.COULD, f"{free} of {_count(place.slots, 'slot')} {'is' if free == 1 else 'are'} free{queue}")


def cap_said(cap: Cap) -> str:
    """Return a limit as it concerns a task: `for each customer` is `for customer=acme` then."""
    limit, text = cap.limit, str(cap.limit)
    return text if cap.value is None else text.replace(f"for each {limit.each}", f"for {limit.each}={cap.value}", 1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
