"""The tasks that wait for a worker, and which of them goes to which worker next (DESIGN §4).

Pure: values in, values out. It is told of every change, and moves what the change concerns; so a decision costs the
logarithm of how many tasks and workers there are, and what cannot be placed costs nothing until something has changed
for it. `matching` has the lanes and the places, `limits` what is in use.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING

from broker.priority import rank
from hub.rules.placement.declines import Declines
from hub.rules.placement.lanes import Lane
from hub.rules.placement.limits import Limit, Usage, caps
from hub.rules.placement.matching import Matching
from hub.rules.placement.place import Placed
from hub.rules.placement.verdicts import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hub.rules.placement.lanes import Entry
    from hub.rules.placement.place import Place, Shape
    from hub.rules.placement.pools import Pool

MAX_IDLE_LANES = 1024
"""So many lanes without a task are kept for the next task of their kind."""

_LaneKey = tuple["Shape", frozenset[str]]


class Backlog:
    """Tasks that wait for a worker, and the workers that they could go to.

    Args:
        limits: How many tasks of which sort may be with workers at one time.

    Attributes:
        usage: How much of the limits is in use.

    """

    def __init__(self, limits: Sequence[Limit] = ()) -> None:
        self.usage = Usage()
        self._limits = limits
        self._matching = Matching(self.usage)
        self._declines = Declines()
        self._lanes: dict[_LaneKey, Lane] = {}
        self._idle: OrderedDict[_LaneKey, Lane] = OrderedDict()
        self._lane_of: dict[str, Lane] = {}
        self._arrivals = itertools.count()
        self._turn = itertools.count(1)

    def __len__(self) -> int:
        return len(self._lane_of)

    def __contains__(self, task: str) -> bool:
        return task in self._lane_of

    # -- tasks -----------------------------------------------------------------------------------------------------

    def add(self, task: str, shape: Shape, priority: int, created_ms: int) -> None:
        """Put a task in; of the same rank, the one added first is first. Adding one twice changes nothing."""
        if task not in self._lane_of:
            self._enter(task, shape, (rank(priority, created_ms), next(self._arrivals)))

    def remove(self, task: str) -> None:
        """Take a task out."""
        if task in self._lane_of:
            self._take(task)

    def decline(self, task: str, worker: str, session: str) -> None:
        """Keep a task from a worker that has declined it, as long as that has this session."""
        self._declines.add(task, worker, session)
        self._change_lane(task)

    def forget(self, task: str) -> None:
        """Forget what is known of a task that has ended."""
        self.remove(task)
        self._declines.forget(task)
        self.release(task)

    def bar(self, task: str, shape: Shape) -> Bar:
        """Return what keeps a task from workers that it fits."""
        return Bar(self._declines.kept_from(task), caps(self._limits, shape), self.usage, task)

    # -- workers ---------------------------------------------------------------------------------------------------

    def see(self, place: Place) -> None:
        """Take note of a worker that is new, or not as it was."""
        for task in self._declines.meet(place.worker, place.session):
            self._change_lane(task)
        self._matching.see(place)

    def on_room(self, place: Place) -> None:
        """Take note of a worker that may have more room than it had, and is else as it was."""
        self._matching.on_room(place)

    def hold(self, task: str, shape: Shape, place: Place) -> None:
        """Count a task that is with a worker, however it came there, towards its limits."""
        self._matching.on_free(self.usage.hold(task, caps(self._limits, shape), place))

    def release(self, task: str) -> None:
        """Count a task no more."""
        self._matching.on_free(self.usage.release(task))

    # -- decisions -------------------------------------------------------------------------------------------------

    def place(self, limit: int) -> list[Placed]:
        """Take up to `limit` tasks out, each with the worker that it goes to.

        `in_flight` and `last_used` of the places are moved along.
        """
        placed: list[Placed] = []
        while len(placed) < limit and (pool := self._matching.next_pool) is not None:
            decision = self._decide(pool)
            if decision:
                placed.append(decision)
        return placed

    def _decide(self, pool: Pool) -> Placed | None:
        """Place the first task of a pool, or put its lane aside: it is kept from all that have room."""
        lane = pool.lanes.first()
        task = lane.first if lane else None
        if lane is None or task is None:
            raise AssertionError("a pool was ready that has no task")
        place = pool.first_but(lane.kept_from)
        if place is None:
            pool.park(lane)
            return None
        self._take(task)
        place.in_flight += 1
        place.last_used = next(self._turn)
        self._matching.on_free(self.usage.hold(task, lane.caps, place))
        return Placed(task, place.worker)

    # -- lanes -----------------------------------------------------------------------------------------------------

    def _enter(self, task: str, shape: Shape, entry: Entry) -> None:
        lane = self._lane_of[task] = self._lane(shape, self._declines.kept_from(task))
        if lane.put(task, entry):
            self._matching.on_task(lane)

    def _take(self, task: str) -> Entry:
        lane = self._lane_of.pop(task)
        entry = lane.take(task)
        if not len(lane):
            self._idle[lane.shape, lane.kept_from] = lane
            if len(self._idle) > MAX_IDLE_LANES:
                key, oldest = self._idle.popitem(last=False)
                del self._lanes[key]
                self._matching.drop(oldest)
        return entry

    def _change_lane(self, task: str) -> None:
        """Let a task that waits wait where it belongs, now that it is kept from others."""
        lane = self._lane_of.get(task)
        if lane is not None and lane.kept_from != self._declines.kept_from(task):
            self._enter(task, lane.shape, self._take(task))

    def _lane(self, shape: Shape, kept_from: frozenset[str]) -> Lane:
        key = shape, kept_from
        self._idle.pop(key, None)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(shape, kept_from, caps(self._limits, shape))
            self._matching.take(lane)
        return lane
