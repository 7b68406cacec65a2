"""A group: places that are alike, so that whether a task fits is asked once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.rules.placement.place import Place, Standing, standing
from hub.rules.placement.standings import Standings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.messages import Scalar
    from hub.rules.placement.limits import Cap, Usage
    from hub.rules.placement.pools import Pool

Traits = tuple[str | None, str, frozenset[str], frozenset[tuple[str, str, object]]]


def traits(place: Place, *, alone: bool) -> Traits:
    """Return by what places are told apart. True is not 1 here, though Python has it so."""
    capabilities = frozenset((name, type(value).__name__, value) for name, value in place.capabilities.items())
    return place.worker if alone else None, place.site, place.kinds, capabilities


class Group:
    """Places at one site with the same kinds and capabilities; or one place, for the tasks that are pinned to it.

    Attributes:
        number: Tells groups apart: its bit stands in the mask of every pool that it is in.
        worker: The one worker of a group for pinned tasks; else None.
        members: Its places, by worker.
        rankings: The places in order, by the limits per worker that hold for those who ask.

    """

    def __init__(self, number: int, place: Place, traits: Traits, usage: Usage) -> None:
        self.number = number
        self.traits = traits
        self.worker, self.site, self.kinds, _ = traits
        self.capabilities: Mapping[str, Scalar] = place.capabilities
        self.members: dict[str, Place] = {}
        self.rankings: dict[tuple[Cap, ...], Ranking] = {}
        self._usage = usage

    def ranking(self, caps: tuple[Cap, ...]) -> Ranking:
        """Return the places in order for tasks that these limits per worker concern."""
        known = self.rankings.get(caps)
        if known is None:
            known = self.rankings[caps] = Ranking(self, caps, self._usage)
        return known

    def release(self, ranking: Ranking) -> None:
        """Let a ranking go that nobody asks for any more."""
        if not ranking.pools:
            del self.rankings[ranking.caps]


class Ranking:
    """The places of a group, the one to be taken first in front.

    Attributes:
        pools: Who asks for it, by number.

    """

    def __init__(self, group: Group, caps: tuple[Cap, ...], usage: Usage) -> None:
        self.group = group
        self.caps = caps
        self.pools: dict[int, Pool] = {}
        self.places: Standings[str, Standing] = Standings(self._standing)
        self._usage = usage
        for worker in group.members:
            self.places.tell(worker)

    @property
    def first(self) -> Place | None:
        """The place to be taken first."""
        worker = self.places.first()
        return None if worker is None else self.group.members[worker]

    def first_but(self, kept_from: frozenset[str]) -> Place | None:
        """Return the place to be taken first that is none of `kept_from`."""
        for worker in self.places.in_order():
            if worker not in kept_from:
                return self.group.members[worker]
        return None

    def _standing(self, worker: str) -> Standing | None:
        place = self.group.members.get(worker)
        if place is None or (self.caps and not all(self._usage.is_open(cap, place) for cap in self.caps)):
            return None
        return standing(place)
