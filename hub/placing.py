"""Gives tasks that wait to workers that have room (DESIGN §4): what `hub.rules.placement` decides, carried out."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from hub.rules import placement
from hub.rules.task import ENDED
from hub.rules.waiting import shape_of
from hub.store import tasks as store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hub.courier import Courier
    from hub.decisions import Decisions
    from hub.fleet import Fleet
    from hub.rules.placement import Place, Shape
    from hub.rules.task import Task
    from hub.rules.waiting import Waiting
    from hub.store.cases import Change

MAX_PLACED = 500
"""Tasks in one assignment transaction."""

AT_REST = 0.01
"""A rate, in tasks a second, that counts for none: an idle worker's falls for ever."""


class Placing:
    """Places the backlog, and knows what each worker has room for."""

    def __init__(self, fleet: Fleet, waiting: Waiting, decisions: Decisions, courier: Courier) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._decisions = decisions
        self._courier = courier
        self._declined: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._ended: Counter[str] = Counter()
        self._able: dict[Shape, list[Place]] = {}
        self._turn = 0

    async def place_some(self) -> bool:
        """Place some tasks; tell whether there may be more to place."""
        placed = placement.place(
            self._waiting.backlog,
            self._candidates,
            limit=MAX_PLACED,
            turn=self._turn,
            excluded=self._is_excluded,
        )
        if not placed:
            return False
        self._turn += len(placed)
        assigning = partial(store.assign, placed=placed, now=now_ms())
        sent = await self._decisions.carry_out(assigning, [one.task for one in placed])
        if sent is None:
            return False
        self._courier.send(sent)
        return True

    def why(self, task: Task) -> str:
        """Return why a task of the backlog is not placed, in words."""
        shape = shape_of(task)
        able = self._candidates(shape)
        if able and all(self._is_excluded(task.id, place) for place in able):
            return f"{task.reason}; no other online worker can run it"
        return placement.explain(shape, self._fleet.places())

    def on_fleet(self) -> None:
        """Look anew who can do what."""
        self._able.clear()

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Follow what workers were given, and what they have ended."""
        for before, after in changes:
            self._count(before.worker if before else None)
            self._count(after.worker)
            if after.state in ENDED:
                self._declined.pop(after.id, None)
                self._ended[after.worker or ""] += 1

    def on_declined(self, worker: str, session: str, tasks: Iterable[str]) -> None:
        """Do not offer a task again to a session that declined it."""
        for task in tasks:
            self._declined[task][worker] = session

    def count_all(self) -> None:
        """Count anew what every worker has in its hands: what was decided for some was not committed."""
        for place in self._fleet.places():
            self._count(place.worker)

    def measure_rates(self, elapsed_seconds: float) -> None:
        """Follow how fast each worker ends its tasks."""
        for place in self._fleet.places():
            ended = self._ended.pop(place.worker, 0)
            if ended or place.rate:
                rate = placement.new_rate(place.rate, ended, elapsed_seconds)
                place.rate = rate if rate > AT_REST else 0.0
        self._ended.clear()

    def _candidates(self, shape: Shape) -> list[Place]:
        able = self._able.get(shape)
        if able is None:
            able = [place for place in self._fleet.places() if place.online and placement.fits(shape, place)]
            self._able[shape] = able
        return able

    def _is_excluded(self, task: str, place: Place) -> bool:
        declined = self._declined.get(task)
        return declined is not None and declined.get(place.worker) == place.session

    def _count(self, worker_id: str | None) -> None:
        worker = self._fleet.get(worker_id) if worker_id else None
        if worker:
            worker.place.in_flight = self._waiting.leases.count(worker.id)
