"""Which worker runs which task: a pure function of the backlog and of the fleet (DESIGN §4).

Tasks that ask for the same thing wait in one lane, so that a decision costs by lanes and workers, never by tasks.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.requirements import unmet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from broker.messages import Requirement, Scalar

QUEUED_SECONDS = 0.25
"""How much work is kept queued at a worker beyond its slots, by the rate that it shows."""

MAX_QUEUED = 2000
RATE_WINDOW_SECONDS = 1.0

ABOUT_TO_GO = "it is about to be assigned"
"""Why a task waits that has a worker: its assignment is being committed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """All that placement asks of a task. `key` tells shapes apart: the requirements as canonical JSON."""

    site: str | None
    worker: str | None
    kind: str
    key: str = "{}"
    requires: Mapping[str, Requirement] = field(default_factory=dict, compare=False, hash=False)


@dataclass(slots=True)
class Place:
    """A worker as placement sees it.

    Attributes:
        in_flight: Attempts that it holds or was sent.
        rate: Tasks a second that it has ended lately.
        storage_full: Whether its disk takes nothing at the moment, so that it can take no task.
        last_used: Grows with each task that it is given; ties go to the least.

    """

    worker: str
    site: str
    online: bool
    slots: int
    kinds: frozenset[str]
    capabilities: Mapping[str, Scalar]
    session: str = ""
    in_flight: int = 0
    rate: float = 0.0
    storage_full: bool = False
    last_used: int = 0

    @property
    def room(self) -> int:
        """How many more tasks it may be sent now."""
        if self.storage_full:
            return 0
        return self.slots + min(MAX_QUEUED, math.ceil(self.rate * QUEUED_SECONDS)) - self.in_flight


@dataclass(frozen=True, slots=True)
class Placed:
    """A decision: this task goes to this worker."""

    task: str
    worker: str


def new_rate(rate: float, ended: int, elapsed_seconds: float) -> float:
    """Return the moving average of a worker's rate, after `ended` tasks in `elapsed_seconds`."""
    weight = 1 - math.exp(-elapsed_seconds / RATE_WINDOW_SECONDS)
    return rate + weight * (ended / max(elapsed_seconds, 1e-3) - rate)


def fits(shape: Shape, place: Place) -> bool:
    """Tell whether `place` can run tasks of `shape`, room or not."""
    return not _misfit(shape, place)


def explain(shape: Shape, places: Iterable[Place]) -> str:
    """Return why no task of `shape` is being placed, in words: `no online worker at site-c has docker`."""
    everyone = list(places)
    where = f"at {shape.site}" if shape.site else "at any site"
    if shape.worker:
        return _explain_pinned(shape, next((place for place in everyone if place.worker == shape.worker), None))
    here = [place for place in everyone if shape.site in (None, place.site)]
    online = [place for place in here if place.online]
    if not online:
        return f"no worker {where} is online" if here else f"no worker {where} is known"
    with_kind = [place for place in online if shape.kind in place.kinds]
    if not with_kind:
        return f"no online worker {where} runs {shape.kind}"
    able = [place for place in with_kind if fits(shape, place)]
    if not able:
        return f"no online worker {where} has {_missing(shape, with_kind)}"
    if all(place.storage_full for place in able):
        return "the disk of every worker that can run it is full"
    return ABOUT_TO_GO if _roomiest(able) else "every worker that can run it is busy"


_Entry = tuple[int, int, int, str]
"""A task in its lane: priority (negated), time of creation, order of arrival, id."""


class Backlog:
    """Tasks that wait for a worker: per shape a heap, highest priority first, then oldest."""

    def __init__(self) -> None:
        self._lanes: dict[Shape, list[_Entry]] = {}
        self._shapes: dict[str, Shape] = {}
        self._added = itertools.count()

    def __len__(self) -> int:
        return len(self._shapes)

    def __contains__(self, task: str) -> bool:
        return task in self._shapes

    def add(self, task: str, shape: Shape, priority: int, created_ms: int) -> None:
        """Put a task in its lane; of the same age, the one added first is first. Adding one twice changes nothing."""
        if task not in self._shapes:
            self._shapes[task] = shape
            heapq.heappush(self._lanes.setdefault(shape, []), (-priority, created_ms, next(self._added), task))

    def remove(self, task: str) -> None:
        """Take a task out; its entry in the heap is passed over later."""
        self._shapes.pop(task, None)

    def shape(self, task: str) -> Shape | None:
        """Return what a waiting task asks for."""
        return self._shapes.get(task)

    def heads(self) -> list[tuple[_Entry, Shape]]:
        """Return the first task of every lane, and forget the lanes that are empty."""
        found = []
        for shape in list(self._lanes):
            head = self.head(shape)
            if head is None:
                del self._lanes[shape]
            else:
                found.append((head, shape))
        return found

    def head(self, shape: Shape) -> _Entry | None:
        """Return the first task of a lane."""
        lane = self._lanes[shape]
        while lane and self._shapes.get(lane[0][-1]) != shape:
            heapq.heappop(lane)
        return lane[0] if lane else None

    def pop(self, shape: Shape) -> str:
        """Take the first task out of a lane."""
        task = heapq.heappop(self._lanes[shape])[-1]
        del self._shapes[task]
        return task

    def set_aside(self, shape: Shape) -> _Entry:
        """Take the first entry of a lane, for `put_back`: its task still waits."""
        return heapq.heappop(self._lanes[shape])

    def put_back(self, shape: Shape, entry: _Entry) -> None:
        """Undo `set_aside`."""
        heapq.heappush(self._lanes[shape], entry)


def place(
    backlog: Backlog,
    candidates: Callable[[Shape], Sequence[Place]],
    *,
    limit: int,
    turn: int = 0,
    excluded: Callable[[str, Place], bool] = lambda _task, _place: False,
) -> list[Placed]:
    """Take up to `limit` tasks out of the backlog, each with the worker that it goes to.

    The worker with the most free room is taken, ties by least recently used. `in_flight` and `last_used` of the places
    are moved along. A lane whose first task finds no room is left as it is; a task that is excluded wherever there is
    room is passed over, so that it does not hold up those behind it.

    Args:
        backlog: What waits.
        candidates: The online places that fit a shape.
        limit: How many at most.
        turn: Larger than any `last_used` so far; the next call's is `turn + len(placed)`.
        excluded: Whether a task must not go to a place, for example because it was declined there.

    """
    heads = [(entry, number, shape) for number, (entry, shape) in enumerate(backlog.heads())]
    heapq.heapify(heads)
    placed: list[Placed] = []
    passed_over: list[tuple[Shape, _Entry]] = []
    while heads and len(placed) < limit:
        entry, number, shape = heapq.heappop(heads)
        task = entry[-1]
        able = candidates(shape)
        chosen = _roomiest(place for place in able if not excluded(task, place))
        if chosen is not None:
            backlog.pop(shape)
            chosen.in_flight += 1
            chosen.last_used = turn + len(placed)
            placed.append(Placed(task, chosen.worker))
        elif _roomiest(able):
            passed_over.append((shape, backlog.set_aside(shape)))
        else:
            continue
        following = backlog.head(shape)
        if following:
            heapq.heappush(heads, (following, number, shape))
    for shape, aside in passed_over:
        backlog.put_back(shape, aside)
    return placed


def _roomiest(places: Iterable[Place]) -> Place | None:
    best = max(places, key=lambda place: (place.room, -place.last_used), default=None)
    return best if best is not None and best.room > 0 else None


def _misfit(shape: Shape, place: Place) -> list[str]:
    if shape.site not in (None, place.site):
        return [f"is at {place.site}"]
    if shape.worker not in (None, place.worker):
        return [f"is not {shape.worker}"]
    if shape.kind not in place.kinds:
        return [f"does not run {shape.kind}"]
    return unmet(shape.requires, place.capabilities)


def _explain_pinned(shape: Shape, place: Place | None) -> str:
    if place is None:
        return f"no worker {shape.worker} is known"
    if not place.online:
        return f"worker {shape.worker} is offline"
    misfit = _misfit(shape, place)
    if misfit:
        return f"worker {shape.worker}: {'; '.join(misfit)}"
    if place.storage_full:
        return f"the disk of worker {shape.worker} is full"
    return ABOUT_TO_GO if place.room > 0 else f"worker {shape.worker} is busy"


def _missing(shape: Shape, places: Iterable[Place]) -> str:
    """Name the requirement that the fewest of `places` meet, as people say it."""
    unmet_by = {
        name: sum(bool(unmet({name: requirement}, place.capabilities)) for place in places)
        for name, requirement in shape.requires.items()
    }
    most = max(unmet_by.values())
    names = [_as_said(name, shape.requires[name]) for name, count in unmet_by.items() if count == most]
    return " and ".join(names)


def _as_said(name: str, requirement: Requirement) -> str:
    if requirement is True:
        return name
    if isinstance(requirement, bool | int | float | str):
        return f"{name} = {str(requirement).lower() if isinstance(requirement, bool) else requirement}"
    return f"{name} {requirement.model_dump_json(by_alias=True, exclude_none=True)}"
