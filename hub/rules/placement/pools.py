"""A pool: the groups that can run the same tasks under the same limits, and the lanes of those tasks."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from hub.rules.placement.place import Place, Standing, standing
from hub.rules.placement.standings import Standings

if TYPE_CHECKING:
    from hub.rules.placement.groups import Group, Ranking
    from hub.rules.placement.lanes import Entry, Lane
    from hub.rules.placement.limits import Cap, Usage

PoolKey = tuple[int, tuple["Cap", ...]]
"""The bits of its groups, and its limits: there is one pool for each."""


class Pool:
    """Who can run the tasks of some lanes.

    A limit of the whole fleet closes the pool, one per site the groups there, and one per worker places in a ranking.

    Attributes:
        mask: A bit for each of its groups.
        lanes: The lanes that have a task to place, by that.

    """

    def __init__(self, number: int, caps: tuple[Cap, ...], usage: Usage) -> None:
        self.number = number
        self.caps = caps
        self.mask = 0
        self.lanes: Standings[Lane, Entry] = Standings(lambda lane: lane.head)
        self._members: dict[Lane, None] = {}
        self._parked: dict[Lane, None] = {}
        self._rankings: dict[int, Ranking] = {}
        self._at: defaultdict[str, dict[int, None]] = defaultdict(dict)
        self._standings: Standings[int, Standing] = Standings(self._standing)
        self._usage = usage
        self._of_fleet, self._of_site, self._of_worker = (
            tuple(cap for cap in caps if cap.level == level) for level in ("fleet", "site", "worker")
        )

    @property
    def key(self) -> PoolKey:
        """What tells it apart."""
        return self.mask, self.caps

    @property
    def groups(self) -> list[Group]:
        """Its groups."""
        return [ranking.group for ranking in self._rankings.values()]

    @property
    def head(self) -> Entry | None:
        """The task that goes first of all its lanes; None where there is none, or no room for it."""
        lane = self.lanes.first()
        return lane.head if lane is not None and self.first is not None else None

    @property
    def first(self) -> Place | None:
        """The place to be taken first."""
        if self._of_fleet and not all(self._usage.is_below(cap, "") for cap in self._of_fleet):
            return None
        number = self._standings.first()
        return None if number is None else self._rankings[number].first

    def first_but(self, kept_from: frozenset[str]) -> Place | None:
        """Return the place to be taken first that is none of `kept_from`."""
        first = self.first
        if first is None or first.worker not in kept_from:
            return first
        best: tuple[Standing, Place] | None = None
        for number in self._standings.in_order():
            own = self._standing(number)
            if own is None or (best is not None and best[0] <= own):
                break
            found = self._rankings[number].first_but(kept_from)
            stands = standing(found) if found is not None else None
            if found is not None and stands is not None and (best is None or stands < best[0]):
                best = stands, found
        return best[1] if best is not None else None

    # -- its lanes -------------------------------------------------------------------------------------------------

    def take(self, lane: Lane) -> None:
        """Let a lane's tasks go to these places."""
        lane.pool, lane.parked = self, False
        self._members[lane] = None
        self.lanes.tell(lane)

    def drop(self, lane: Lane) -> None:
        """Let a lane go."""
        del self._members[lane]
        self._parked.pop(lane, None)
        self.lanes.forget(lane)

    @property
    def members(self) -> list[Lane]:
        """Every lane."""
        return list(self._members)

    def park(self, lane: Lane) -> None:
        """Put a lane aside until a place has room that it is not kept from."""
        lane.parked = True
        self._parked[lane] = None

    def unpark(self, worker: str | None = None) -> bool:
        """Look anew at lanes that may go to `worker`, or at all; tell whether there are any."""
        woken = [lane for lane in self._parked if worker is None or worker not in lane.kept_from]
        for lane in woken:
            del self._parked[lane]
            lane.parked = False
            self.lanes.tell(lane)
        return bool(woken)

    # -- its groups ------------------------------------------------------------------------------------------------

    def add(self, group: Group) -> None:
        """Let a group's places be taken too."""
        self.mask |= 1 << group.number
        ranking = self._rankings[group.number] = group.ranking(self._of_worker)
        ranking.pools[self.number] = self
        self._at[group.site][group.number] = None
        self._standings.tell(group.number)

    def remove(self, group: Group) -> None:
        """Let a group's places be taken no more."""
        self.mask &= ~(1 << group.number)
        ranking = self._rankings.pop(group.number)
        del ranking.pools[self.number]
        del self._at[group.site][group.number]
        group.release(ranking)
        self._standings.forget(group.number)

    def tell(self, group: Group) -> None:
        """Note that a place of a group may stand further up."""
        self._standings.tell(group.number)

    def tell_site(self, site: str) -> None:
        """Note that what was closed at a site may be open."""
        for number in self._at.get(site, ()):
            self._standings.tell(number)

    def _standing(self, number: int) -> Standing | None:
        ranking = self._rankings.get(number)
        place = ranking.first if ranking else None
        if place is None or (self._of_site and not all(self._usage.is_open(cap, place) for cap in self._of_site)):
            return None
        return standing(place)
