"""All pools: one for each set of groups and limits that some lane needs, and no other."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from hub.rules.placement.pools import Pool, PoolKey
from hub.rules.placement.standings import Standings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.rules.placement.groups import Group
    from hub.rules.placement.lanes import Entry, Lane
    from hub.rules.placement.limits import Cap, Count, Usage


class Pools:
    """Puts lanes into pools, and pools apart and together as groups come and go.

    Attributes:
        ready: The pools that have a task and room for it, by that task.

    """

    def __init__(self, usage: Usage) -> None:
        self.ready: Standings[Pool, Entry] = Standings(lambda pool: pool.head)
        self._usage = usage
        self._pools: dict[PoolKey, Pool] = {}
        self._under: defaultdict[Cap, dict[int, Pool]] = defaultdict(dict)
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._pools)

    def take(self, lane: Lane, groups: list[Group]) -> None:
        """Put a lane into the pool of some groups."""
        pool = self._of(groups, lane.caps)
        pool.take(lane)
        self.ready.tell(pool)

    def leave(self, lane: Lane) -> None:
        """Take a lane out of its pool; one that has none any more is forgotten."""
        pool = lane.pool
        pool.drop(lane)
        if not pool.members:
            del self._pools[pool.key]
            self._close(pool)

    def on_free(self, count: Count) -> None:
        """Take note of a limit of the fleet, or per site, that is not reached any more."""
        for pool in self._under.get(count.cap, {}).values():
            if count.cap.level == "site":
                pool.tell_site(count.scope)
            pool.unpark()
            self.ready.tell(pool)

    def widen(self, pool: Pool, lanes: list[Lane], group: Group) -> None:
        """Let some lanes of a pool go to one more group: the pool has it then, or they go to another pool."""
        mask = pool.mask | 1 << group.number
        if len(lanes) == len(pool.members) and (mask, pool.caps) not in self._pools:
            del self._pools[pool.key]
            pool.add(group)
            self._pools[pool.key] = pool
            return
        wider = self._of([*pool.groups, group], pool.caps)
        for lane in lanes:
            self.leave(lane)
            wider.take(lane)
        self.ready.tell(wider)

    def narrow(self, group: Group) -> None:
        """Let nobody go to a group any more."""
        for pool in [pool for ranking in group.rankings.values() for pool in ranking.pools.values()]:
            del self._pools[pool.key]
            pool.remove(group)
            twin = self._pools.setdefault(pool.key, pool)
            if twin is not pool:
                self._merge(pool, twin)

    def _of(self, groups: list[Group], caps: tuple[Cap, ...]) -> Pool:
        known = self._pools.get((sum(1 << group.number for group in groups), caps))
        if known is not None:
            return known
        pool = Pool(next(self._numbers), caps, self._usage)
        for group in groups:
            pool.add(group)
        for cap in caps:
            self._under[cap][pool.number] = pool
        self._pools[pool.key] = pool
        return pool

    def _merge(self, pool: Pool, twin: Pool) -> None:
        """Put the lanes of a pool into another that has the same groups by now."""
        for lane in pool.members:
            pool.drop(lane)
            twin.take(lane)
        self._close(pool)
        self.ready.tell(twin)

    def _close(self, pool: Pool) -> None:
        for cap in pool.caps:
            del self._under[cap][pool.number]
            if not self._under[cap]:
                del self._under[cap]
        for group in pool.groups:
            pool.remove(group)
        self.ready.forget(pool)


def by_pool(lanes: Iterable[Lane]) -> list[tuple[Pool, list[Lane]]]:
    """Sort lanes by the pool that they are in."""
    sorted_out: dict[int, tuple[Pool, list[Lane]]] = {}
    for lane in lanes:
        sorted_out.setdefault(lane.pool.number, (lane.pool, []))[1].append(lane)
    return list(sorted_out.values())
