"""Gives tasks that wait to workers that have room (DESIGN §4): what `hub.rules.placement` decides, carried out."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from hub.rules import placement
from hub.rules.task import ENDED, HELD
from hub.store import tasks as store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hub.courier import Courier
    from hub.decisions import Decisions
    from hub.fleet import Fleet
    from hub.rules.placement import Judged, Place, Placed, Shape
    from hub.rules.task import Task
    from hub.rules.waiting import Waiting
    from hub.store.cases import Change
    from hub.worker import Worker

MAX_PLACED = 500
"""Tasks in one assignment transaction."""

AT_REST = 0.01
"""A rate, in tasks a second, that counts for none: an idle worker's falls for ever."""


class Placing:
    """Places the backlog, and tells it what each worker has room for."""

    def __init__(self, fleet: Fleet, waiting: Waiting, decisions: Decisions, courier: Courier) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._backlog = waiting.backlog
        self._decisions = decisions
        self._courier = courier
        self._ended: Counter[str] = Counter()
        self._moving: set[str] = set()
        self._said: dict[tuple[Shape, frozenset[str]], str] = {}

    async def place_some(self) -> bool:
        """Place some tasks; tell whether there may be more to place."""
        placed = self._backlog.place(MAX_PLACED)
        if not placed:
            return False
        self._said.clear()
        assigning = partial(store.assign, placed=placed, now=now_ms())
        sent = await self._decisions.carry_out(assigning, [one.task for one in placed])
        self._settle(placed)
        if sent is None:
            return False
        self._courier.send(sent)
        return True

    def why(self, task: Task) -> str:
        """Return why a task of the backlog is not placed, in words."""
        shape = self._waiting.shape(task)
        bar = self._backlog.bar(task.id, shape)
        said = self._said.get((shape, bar.kept_from))
        if said is None:
            pinned = self._fleet.get(shape.worker) if shape.worker else None
            said = placement.explain(shape, [pinned.place] if pinned else self._fleet.places(), bar)
            self._said[shape, bar.kept_from] = said
        return f"{task.reason}; no other online worker can run it" if said == placement.ALL_DECLINED else said

    def verdicts(self, task: Task) -> list[tuple[Place, Judged]]:
        """Return what each worker is to a task, by the fleet as it is now, and why."""
        shape = self._waiting.shape(task)
        bar = self._backlog.bar(task.id, shape)
        return [(place, placement.verdict(shape, place, bar)) for place in self._fleet.places()]

    def on_fleet(self, worker: Worker) -> None:
        """Look anew at what a worker can do."""
        self._said.clear()
        self._backlog.see(worker.place)

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Follow what workers were given, and what they have ended."""
        self._said.clear()
        for before, after in changes:
            if after.state in ENDED:
                self._backlog.forget(after.id)
                self._ended[after.worker or ""] += 1
            else:
                self.count_limits(after)
            self._count(before.worker if before else None)
            self._count(after.worker)

    def on_declined(self, worker: str, session: str, tasks: Iterable[str]) -> None:
        """Do not offer a task again to a session that declined it."""
        for task in tasks:
            self._backlog.decline(task, worker, session)

    def count_limits(self, task: Task) -> None:
        """Count a task that has not ended towards its limits, where it is with a worker."""
        if not self._waiting.limited:
            return
        worker = self._fleet.get(task.worker) if task.worker and task.state in HELD else None
        if worker:
            self._backlog.hold(task.id, self._waiting.shape(task), worker.place)
        else:
            self._backlog.release(task.id)

    def count_all(self) -> None:
        """Count anew what every worker has in its hands: what was decided for some was not committed."""
        self._said.clear()
        for task in self._backlog.usage.tasks:
            if self._waiting.leases.get(task) is None:
                self._backlog.release(task)
        for place in self._fleet.places():
            place.in_flight = self._waiting.leases.count(place.worker)
            self._backlog.see(place)

    def measure_rates(self, elapsed_seconds: float) -> None:
        """Follow how fast each worker ends its tasks; of one that is at rest there is nothing to follow."""
        ended, self._ended = self._ended, Counter()
        if not self._moving and not ended:
            return
        self._said.clear()
        for worker_id in sorted(self._moving | ended.keys()):
            worker = self._fleet.get(worker_id)
            if worker is None:
                continue
            rate = placement.new_rate(worker.place.rate, ended[worker_id], elapsed_seconds)
            worker.place.rate = rate if rate > AT_REST else 0.0
            (self._moving.add if worker.place.rate else self._moving.discard)(worker_id)
            self._backlog.on_room(worker.place)

    def _settle(self, placed: Iterable[Placed]) -> None:
        """Take back what was decided and not carried out: a task was cancelled meanwhile, or nothing was committed."""
        for one in placed:
            if self._waiting.leases.get(one.task) is None:
                self._backlog.release(one.task)
            self._count(one.worker)

    def _count(self, worker_id: str | None) -> None:
        worker = self._fleet.get(worker_id) if worker_id else None
        if worker:
            worker.place.in_flight = self._waiting.leases.count(worker.id)
            self._backlog.on_room(worker.place)
