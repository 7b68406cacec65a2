"""Which lanes may go to which places: kept up to date as workers come, go and change, and as lanes do.

An event is handed to the pools that it concerns, and to no other. What waits and cannot go costs nothing meanwhile.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING

from hub.rules.placement.groups import Group, Traits, traits
from hub.rules.placement.place import fits
from hub.rules.placement.pooling import Pools, by_pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.rules.placement.lanes import Lane
    from hub.rules.placement.limits import Count, Usage
    from hub.rules.placement.place import Place
    from hub.rules.placement.pools import Pool


class Matching:
    """Groups of places, and the pools in which lanes meet them.

    Args:
        usage: How much of each limit is in use.

    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._pools = Pools(usage)
        self._places: dict[str, Place] = {}
        self._groups: dict[Traits, Group] = {}
        self._at_site: defaultdict[str, dict[int, Group]] = defaultdict(dict)
        self._group_of: dict[str, Group] = {}
        self._alone: dict[str, Group] = {}
        self._lanes: defaultdict[str | None, dict[Lane, None]] = defaultdict(dict)  # by site
        self._pinned: defaultdict[str, dict[Lane, None]] = defaultdict(dict)  # by worker
        self._free_numbers: list[int] = []
        self._used = 0

    @property
    def next_pool(self) -> Pool | None:
        """The pool with the task that goes first of all that can go."""
        return self._pools.ready.first()

    # -- places ----------------------------------------------------------------------------------------------------

    def see(self, place: Place) -> None:
        """Take note of a place that is new, or not as it was."""
        self._places[place.worker] = place
        self._put(place, self._group_of, alone=False)
        if place.worker in self._alone or self._pinned.get(place.worker):
            self._put(place, self._alone, alone=True)
        self.on_room(place)

    def on_room(self, place: Place) -> None:
        """Take note of a place that may have more room than it had."""
        for groups in (self._group_of, self._alone):
            group = groups.get(place.worker)
            for ranking in group.rankings.values() if group else ():
                told = ranking.places.tell(place.worker)
                for pool in ranking.pools.values():
                    if told:
                        pool.tell(ranking.group)
                    if pool.unpark(place.worker) or (told and pool not in self._pools.ready):
                        self._pools.ready.tell(pool)

    def on_free(self, counts: Iterable[Count]) -> None:
        """Take note of limits that are not reached any more."""
        for count in counts:
            if count.cap.level != "worker":
                self._pools.on_free(count)
            elif count.scope in self._places:
                self.on_room(self._places[count.scope])

    # -- lanes -----------------------------------------------------------------------------------------------------

    def take(self, lane: Lane) -> None:
        """Let a lane's tasks go to every place that they fit."""
        groups = [group for group in self._may_fit(lane) if fits(lane.shape, group)]
        self._pools.take(lane, groups)
        self._like(lane)[lane] = None

    def drop(self, lane: Lane) -> None:
        """Forget a lane."""
        like, shape = self._like(lane), lane.shape
        del like[lane]
        if not like and shape.worker is not None:
            del self._pinned[shape.worker]
        elif not like:
            del self._lanes[shape.site]
        self._pools.leave(lane)

    def on_task(self, lane: Lane) -> None:
        """Take note of a lane that may have another head."""
        if lane.pool.lanes.tell(lane):
            self._pools.ready.tell(lane.pool)

    def _like(self, lane: Lane) -> dict[Lane, None]:
        """Return the lanes that ask for the same site, or for the same worker."""
        shape = lane.shape
        return self._lanes[shape.site] if shape.worker is None else self._pinned[shape.worker]

    def _may_fit(self, lane: Lane) -> Iterable[Group]:
        """Return the groups that a lane's tasks could fit, as far as that is by site and worker."""
        shape = lane.shape
        if shape.worker is not None:
            return self._group_alone(shape.worker)
        if shape.site is not None:
            return self._at_site.get(shape.site, {}).values()
        return [group for groups in self._at_site.values() for group in groups.values()]

    def _group_alone(self, worker: str) -> list[Group]:
        """Return a group of one worker, if that is known."""
        place = self._places.get(worker)
        if place is None:
            return []
        if worker not in self._alone:
            self._put(place, self._alone, alone=True)
        return [self._alone[worker]]

    # -- groups ----------------------------------------------------------------------------------------------------

    def _put(self, place: Place, groups: dict[str, Group], *, alone: bool) -> None:
        """Put a place into the group that it is like."""
        key = traits(place, alone=alone)
        known, group = groups.get(place.worker), self._groups.get(key)
        if known is not None and known is group:
            known.members[place.worker] = place
            return
        if known is not None:
            del known.members[place.worker]
            if not known.members:
                self._disband(known)
        if group is None:
            group = self._groups[key] = self._new_group(place, key)
        group.members[place.worker] = place
        groups[place.worker] = group

    def _new_group(self, place: Place, key: Traits) -> Group:
        """Make a group like `place`, and let the lanes that it fits go there too."""
        alone = key[0] is not None
        group = Group(self._next_number(), place, key, self._usage)
        near: tuple[dict[Lane, None], ...] = (self._pinned.get(place.worker, {}),)
        if not alone:
            self._at_site[group.site][group.number] = group
            near = (self._lanes.get(group.site, {}), self._lanes.get(None, {}))
        for pool, lanes in by_pool(lane for some in near for lane in some if fits(lane.shape, group)):
            self._pools.widen(pool, lanes, group)
        return group

    def _next_number(self) -> int:
        """Return a number that no group has: as small as can be, since the masks of pools are as long."""
        self._used += 1
        return heapq.heappop(self._free_numbers) if self._free_numbers else self._used - 1

    def _disband(self, group: Group) -> None:
        """Forget a group that has no places any more."""
        self._pools.narrow(group)
        del self._groups[group.traits]
        if group.worker is None:
            del self._at_site[group.site][group.number]
        self._used -= 1
        heapq.heappush(self._free_numbers, group.number)
