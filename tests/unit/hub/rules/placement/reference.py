"""Placement as one would write it who has all day: every task beside every worker, for each decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from broker.requirements import unmet
from hub.rules.placement import Placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hub.rules.placement import Limit, Place, Shape


class Held(NamedTuple):
    """A task that is with a worker, which was at `site` when it got it."""

    shape: Shape
    worker: str
    site: str


@dataclass
class Reference:
    """The same as `Backlog`, by the contract's own words."""

    limits: Sequence[Limit]
    places: dict[str, Place] = field(default_factory=dict)
    waiting: dict[str, tuple[int, int, Shape]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    declined: set[tuple[str, str, str]] = field(default_factory=set)
    arrivals: int = 0
    turn: int = 0

    def add(self, task: str, shape: Shape, priority: int, created_ms: int) -> None:
        self.arrivals += 1
        self.waiting.setdefault(task, (created_ms - 30_000 * priority, self.arrivals, shape))

    def place(self, limit: int) -> list[Placed]:
        placed: list[Placed] = []
        while len(placed) < limit:
            decision = next(self._decisions(), None)
            if decision is None:
                break
            task, place = decision
            _, _, shape = self.waiting.pop(task)
            self.held[task] = Held(shape, place.worker, place.site)
            self.turn += 1
            place.in_flight, place.last_used = place.in_flight + 1, self.turn
            placed.append(Placed(task, place.worker))
        return placed

    def _decisions(self) -> Iterator[tuple[str, Place]]:
        for task, (_, _, shape) in sorted(self.waiting.items(), key=lambda item: item[1][:2]):
            able = [place for place in self.places.values() if self.may_go(task, shape, place)]
            if able:
                yield task, min(able, key=_order)

    def may_go(self, task: str, shape: Shape, place: Place) -> bool:
        return (
            place.online
            and place.room > 0
            and shape.site in (None, place.site)
            and shape.worker in (None, place.worker)
            and shape.kind in place.kinds
            and not unmet(shape.requires, place.capabilities)
            and (task, place.worker, place.session) not in self.declined
            and not any(self._is_reached(limit, shape, place) for limit in self.limits)
        )

    def _is_reached(self, limit: Limit, shape: Shape, place: Place) -> bool:
        if not _concerns(limit, shape, place.site):
            return False
        same = [
            held
            for held in self.held.values()
            if _concerns(limit, held.shape, held.site)
            and (limit.each is None or dict(held.shape.labels)[limit.each] == dict(shape.labels)[limit.each])
            and (limit.per != "site" or held.site == place.site)
            and (limit.per != "worker" or held.worker == place.worker)
        ]
        return len(same) >= limit.max


def _concerns(limit: Limit, shape: Shape, site: str) -> bool:
    labels = dict(shape.labels)
    return (
        all(labels.get(name) == value for name, value in limit.labels.items())
        and limit.kind in (None, shape.kind)
        and limit.site in (None, site)
        and (limit.each is None or limit.each in labels)
    )


def _order(place: Place) -> tuple[int, int, int, str]:
    free = max(place.slots - place.in_flight, 0)
    return (-free, 0 if free else -place.room, place.last_used, place.worker)
