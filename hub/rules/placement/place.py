"""A worker as placement sees it, and what tasks ask of one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from broker.requirements import unmet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.messages import Requirement, Scalar

QUEUED_SECONDS = 0.25
"""How much work is kept queued at a worker beyond its slots, by the rate that it shows."""

MAX_QUEUED = 2000
RATE_WINDOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """All that placement asks of a task.

    Attributes:
        key: The requirements as canonical JSON: it tells shapes apart.
        labels: Of its labels those that a limit looks at, in order.

    """

    site: str | None
    worker: str | None
    kind: str
    key: str = "{}"
    requires: Mapping[str, Requirement] = field(default_factory=dict, compare=False, hash=False)
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Place:
    """A worker as placement sees it.

    Attributes:
        in_flight: Attempts that it holds or was sent.
        rate: Tasks a second that it has ended lately.
        storage_full: Whether its disk takes nothing at the moment, so that it can take no task.
        last_used: Grows with each task that it is given; ties go to the least.

    """

    worker: str
    site: str
    online: bool
    slots: int
    kinds: frozenset[str]
    capabilities: Mapping[str, Scalar]
    session: str = ""
    in_flight: int = 0
    rate: float = 0.0
    storage_full: bool = False
    last_used: int = 0

    @property
    def room(self) -> int:
        """How many more tasks it may be sent now."""
        if self.storage_full:
            return 0
        return self.slots + min(MAX_QUEUED, math.ceil(self.rate * QUEUED_SECONDS)) - self.in_flight


class Placed(NamedTuple):
    """A decision: this task goes to this worker."""

    task: str
    worker: str


Standing = tuple[int, int, int, str]
"""What places are taken by, the least first."""


def standing(place: Place) -> Standing | None:
    """Return what a place is taken by; None where it takes nothing now.

    The most free slots go first, and where all are taken, the most room in the queue; ties by least recently used. Room
    in the queue does not count beside a free slot: it grows with what a worker ends, so that of equal workers one would
    get ever more.
    """
    if not place.online or place.storage_full:
        return None
    free = place.slots - place.in_flight
    if free > 0:
        return -free, 0, place.last_used, place.worker
    room = place.room if place.rate else 0
    return (0, -room, place.last_used, place.worker) if room > 0 else None


def new_rate(rate: float, ended: int, elapsed_seconds: float) -> float:
    """Return the moving average of a worker's rate, after `ended` tasks in `elapsed_seconds`."""
    weight = 1 - math.exp(-elapsed_seconds / RATE_WINDOW_SECONDS)
    return rate + weight * (ended / max(elapsed_seconds, 1e-3) - rate)


class Able(Protocol):
    """What tells who can run what: of one worker, or of many that are alike."""

    @property
    def worker(self) -> str | None:
        """Its name; None of many."""

    @property
    def site(self) -> str:
        """Where it is."""

    @property
    def kinds(self) -> frozenset[str]:
        """What it runs."""

    @property
    def capabilities(self) -> Mapping[str, Scalar]:
        """What it has."""


def fits(shape: Shape, able: Able) -> bool:
    """Tell whether `able` can run tasks of `shape`, room or not."""
    return not misfit(shape, able)


def misfit(shape: Shape, able: Able) -> list[str]:
    """Return why `able` cannot run tasks of `shape`, in words; nothing where it can."""
    if shape.site not in (None, able.site):
        return [f"is at {able.site}"]
    if shape.worker not in (None, able.worker):
        return [f"is not {shape.worker}"]
    if shape.kind not in able.kinds:
        return [f"does not run {shape.kind}"]
    return unmet(shape.requires, able.capabilities)
