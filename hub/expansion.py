"""Gives tasks for each matching worker to those workers: what `hub.rules.children` decides, carried out (decision 10).

A parent is looked at when it comes, and again when a worker that matches it came, or can do other things now. So it
costs by the workers that changed, and not by all that there are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.log import get_logger
from hub.rules import children
from hub.rules.children import Candidate
from hub.rules.waiting import shape_of
from hub.store.expansion import expand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hub.decisions import Decisions
    from hub.fleet import Fleet
    from hub.rules.children import Member
    from hub.rules.placement import Shape
    from hub.rules.task import Task
    from hub.rules.waiting import Waiting
    from hub.worker import Worker

MAX_CHILDREN = 1000
"""Children that are made in one transaction, but where one parent has more: others wait for it."""

log = get_logger(__name__)


class Expansion:
    """Expands parents.

    Args:
        fleet: Who may match.
        waiting: Where parents wait.
        decisions: Carries out what is decided.

    """

    def __init__(self, fleet: Fleet, waiting: Waiting, decisions: Decisions) -> None:
        self._fleet = fleet
        self._parents = waiting.parents
        self._decisions = decisions
        self._changed: dict[str, Worker] = {}
        self._under_way: frozenset[str] = frozenset()

    def on_fleet(self, worker: Worker) -> None:
        """Look anew at whether this worker matches."""
        self._changed[worker.id] = worker

    async def expand(self) -> None:
        """Expand every parent that a worker matches."""
        for plans in self._groups(self._due()):
            self._under_way = frozenset(plans)
            made = await self._decisions.carry_out(partial(expand, plans=plans, now=now_ms()), list(plans))
            for parent, count in (made or {}).items():
                log.info("expanded", task=parent, children=count)
        self._under_way = frozenset()

    def is_expanding(self, task: Task) -> bool:
        """Tell whether a task is a parent that waits only for its children to be committed."""
        if task.id in self._under_way:
            return True
        return self._parents.is_unseen(task.id) and bool(self._members(shape_of(task), self._fleet))

    def _due(self) -> list[Task]:
        """Return the parents that must be looked at: those that are new, or that a worker matches which has changed."""
        changed, self._changed = list(self._changed.values()), {}
        return self._parents.take((lambda task: bool(self._members(shape_of(task), changed))) if changed else None)

    def _groups(self, parents: Iterable[Task]) -> Iterator[dict[str, list[Member]]]:
        """Yield who is given what, as much as goes into a transaction at a time."""
        by_shape: dict[Shape, list[Member]] = {}
        plans: dict[str, list[Member]] = {}
        size = 0
        for task in parents:
            shape = shape_of(task)
            if shape not in by_shape:
                by_shape[shape] = self._members(shape, self._fleet)
            if by_shape[shape]:
                plans[task.id] = by_shape[shape]
                size += len(by_shape[shape])
            if size >= MAX_CHILDREN:
                yield plans
                plans, size = {}, 0
        if plans:
            yield plans

    def _members(self, shape: Shape, workers: Iterable[Worker]) -> list[Member]:
        candidates = (Candidate(worker.place, worker.presence) for worker in workers)
        return children.members(shape, candidates, now_ms())
