"""What a decision costs, which task goes to which worker: by how many workers there are and how many tasks wait."""

from __future__ import annotations

import gc
import heapq
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.limits import commits_per_second
from bench.rows import Row, ratio
from hub.rules.placement import Backlog, Place, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

FLEETS = (10, 100, 1_000, 5_000)
WAITING = (1_000, 100_000)
SITES = 5
SLOTS = 4
DECISIONS = 5_000
BATCH = 500
"""What the hub commits at once."""

HEARTBEATS = 2_000
SEED = 20_260
_DEVICES = ("docker", "gpu", "camera", "modem")


def rows() -> Iterator[Row]:
    """Measure each fleet with each backlog."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        commit_us = 1e6 / commits_per_second(Path(name))[0]
    for waiting in WAITING:
        bare_us = heap_us(waiting)
        beside = f"a bare heap's pop and push: {bare_us:.1f} µs; a SQLite commit with fsync: {commit_us:,.0f} µs"
        first = None
        for workers in FLEETS:
            house = House(workers, waiting)
            one, many, seen = house.one_by_one_us(), house.in_batches_us(), house.seen_us()
            first = first or one
            figure = f"{one:.1f} µs one slot at a time, {many:.1f} µs by {BATCH}; a worker seen anew: {seen:.1f} µs"
            yield Row(
                f"placement: {workers:,} workers, {waiting:,} tasks waiting",
                figure,
                f"{beside}; ratio: to {FLEETS[0]} workers",
                ratio(one, first),
            )


class House:
    """A fleet at five sites of which every slot is taken, and a backlog of tasks in 20 shapes."""

    def __init__(self, workers: int, waiting: int) -> None:
        self._dice = random.Random(SEED)  # noqa: S311  the same house each time
        self.shapes = _shapes()
        self.backlog = Backlog()
        self.places = [_place(number) for number in range(workers)]
        self.by_name = {place.worker: place for place in self.places}
        self._added = 0
        self._shape_of: dict[str, Shape] = {}
        for place in self.places:
            self.backlog.see(place)
        for _ in range(waiting):
            self._add(self._dice.choice(self.shapes))

    def one_by_one_us(self) -> float:
        """Return what a decision costs where one task ends, and the next goes there."""
        return self._measure(1)

    def in_batches_us(self) -> float:
        """Return what a decision costs where many tasks have ended."""
        return self._measure(BATCH)

    def seen_us(self) -> float:
        """Return what it costs that a worker is seen anew, as when a heartbeat tells something new of it."""
        seen = self._dice.choices(self.places, k=HEARTBEATS)
        began = time.perf_counter()
        for place in seen:
            self.backlog.see(place)
        return (time.perf_counter() - began) / HEARTBEATS * 1e6

    def _measure(self, batch: int) -> float:
        """Return the median: the machine has other things to do as well."""
        decided, costs = 0, []
        gc.collect()
        while decided < DECISIONS:
            free = self._dice.sample(self.places, min(batch, len(self.places)))
            began = time.perf_counter()
            for place in free:
                place.in_flight -= 1
                self.backlog.on_room(place)
            placed = self.backlog.place(batch)
            costs.append((time.perf_counter() - began) / len(placed))
            decided += len(placed)
            for one in placed:  # what waits stays what it is
                self._add(self._shape_of.pop(one.task))
        return statistics.median(costs) * 1e6

    def _add(self, shape: Shape) -> None:
        self._added += 1
        task = f"t{self._added}"
        self._shape_of[task] = shape
        self.backlog.add(task, shape, self._dice.randint(-3, 3), self._added)


def heap_us(size: int) -> float:
    """Return what a pop and a push cost on a heap of that size: less than that no queue by priority can do."""
    dice = random.Random(SEED)  # noqa: S311
    heap = [(dice.random(), number) for number in range(size)]
    heapq.heapify(heap)
    fresh = [(dice.random(), number) for number in range(DECISIONS)]
    began = time.perf_counter()
    for entry in fresh:
        heapq.heappop(heap)
        heapq.heappush(heap, entry)
    return (time.perf_counter() - began) / DECISIONS * 1e6


def _place(number: int) -> Place:
    """Return a worker: at each site the first has all devices, and the next fifteen other sets of them."""
    devices = {name: True for bit, name in enumerate(_DEVICES) if ~(number // SITES) >> bit & 1}
    return Place(
        f"w{number}",
        f"site-{number % SITES}",
        online=True,
        slots=SLOTS,
        kinds=frozenset({"noop", "container"}),
        capabilities={"memory_mb": 512 << number % 3, **devices},
        in_flight=SLOTS,
    )


def _shapes() -> list[Shape]:
    """Return what is asked for: three things at each site, and five anywhere."""
    wanted: list[dict[str, bool]] = [{}, *({name: True} for name in _DEVICES)]
    here = [(f"site-{number}", requires) for number in range(SITES) for requires in wanted[:3]]
    anywhere = [(None, requires) for requires in wanted]
    return [Shape(site, None, "noop", repr(requires), requires) for site, requires in (*here, *anywhere)]
