"""Whatever happens, the backlog decides as plain search over every task and every worker does."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings, strategies as st

from hub.rules.placement import Backlog, Limit
from tests.unit.hub.rules.placement.cases import asking, worker
from tests.unit.hub.rules.placement.reference import Held, Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.messages import Scalar
    from hub.rules.placement import Place, Shape

Traits = tuple[list[str], dict[str, "Scalar"]]
Step = tuple["Callable[..., None]", tuple[object, ...], dict[str, object]]
Drawn = st.SearchStrategy[Any]

SITES, KINDS, WORKERS = ["site-a", "site-b"], ["noop", "sleep"], ["w0", "w1", "w2", "w3"]
TASKS = [f"t{number}" for number in range(9)]
CAPABILITIES = st.dictionaries(st.sampled_from(["docker", "gpu"]), st.booleans() | st.integers(0, 2), max_size=2)
LABELS = st.dictionaries(st.sampled_from(["job", "team"]), st.sampled_from(["a", "b"]), max_size=2)
SHAPES = st.builds(
    lambda site, pinned, kind, labels, requires: asking(site, pinned, kind, labels, **requires),
    st.none() | st.sampled_from(SITES),
    st.none() | st.none() | st.sampled_from(WORKERS),
    st.sampled_from(KINDS),
    LABELS,
    CAPABILITIES,
)
LIMITS = st.lists(
    st.builds(
        Limit,
        labels=LABELS,
        kind=st.none() | st.sampled_from(KINDS),
        site=st.none() | st.sampled_from(SITES),
        each=st.none() | st.sampled_from(["job", "team"]),
        per=st.sampled_from(["fleet", "site", "worker"]),
        max=st.integers(0, 3),
    ),
    max_size=3,
)


class Both:
    """A backlog and its reference, to which the same happens: with few shapes and traits, so that they meet often."""

    def __init__(self, limits: Sequence[Limit], shapes: Sequence[Shape], traits: Sequence[Traits]) -> None:
        self.backlog = Backlog(limits)
        self.reference = Reference(limits)
        self.shapes = shapes
        self.traits = traits
        self.places: dict[str, Place] = {}

    def see(self, name: str, site: str, traits: int, **now: object) -> None:
        place = self.places.setdefault(name, worker(name, site))
        twin = self.reference.places.setdefault(name, copy(place))
        kinds, capabilities = self.traits[traits % len(self.traits)]
        for one in (place, twin):
            one.site, one.kinds, one.capabilities = site, frozenset(kinds), capabilities
            for attribute, value in now.items():
                setattr(one, attribute, value)
        self.backlog.see(place)

    def add(self, task: str, number: int, priority: int, created_ms: int) -> None:
        if task not in self.reference.held:
            shape = self.shapes[number % len(self.shapes)]
            self.backlog.add(task, shape, priority, created_ms)
            self.reference.add(task, shape, priority, created_ms)

    def remove(self, task: str) -> None:
        self.backlog.remove(task)
        self.reference.waiting.pop(task, None)

    def decline(self, task: str, name: str) -> None:
        if name in self.places:
            session = self.places[name].session
            self.reference.declined.add((task, name, session))
            self.backlog.decline(task, name, session)

    def take_by_itself(self, task: str, number: int, name: str) -> None:
        """Let a worker take a task from a topic, limits or not."""
        if name in self.places and task not in self.reference.held and task not in self.reference.waiting:
            shape = self.shapes[number % len(self.shapes)]
            self.reference.held[task] = Held(shape, name, self.places[name].site)
            self.backlog.hold(task, shape, self.places[name])
            self._count(name, 1)

    def end(self, task: str, *, ended: bool) -> None:
        """Let a task be with nobody any more, for good or not."""
        held = self.reference.held.pop(task, None)
        if held is None:
            return
        if ended:
            self.backlog.forget(task)
            self.reference.declined = {one for one in self.reference.declined if one[0] != task}
        else:
            self.backlog.release(task)
        self._count(held.worker, -1)

    def place(self, limit: int) -> None:
        assert self.backlog.place(limit) == self.reference.place(limit)
        assert {task for task in TASKS if task in self.backlog} == self.reference.waiting.keys()
        assert len(self.backlog) == len(self.reference.waiting)
        assert self.places == self.reference.places

    def _count(self, name: str, more: int) -> None:
        for place in (self.places[name], self.reference.places[name]):
            place.in_flight += more
        self.backlog.on_room(self.places[name])


def do(what: Callable[..., None], *args: Drawn, **kwargs: Drawn) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(what), st.tuples(*args), st.fixed_dictionaries(kwargs))


TRAITS = st.tuples(st.lists(st.sampled_from(KINDS), min_size=1, unique=True), CAPABILITIES)
NUMBERS = st.integers(0, 5)
SEE = do(
    Both.see,
    st.sampled_from(WORKERS),
    st.sampled_from(SITES),
    NUMBERS,
    online=st.sampled_from([True, True, True, False]),
    slots=st.integers(1, 3),
    rate=st.sampled_from([0.0, 0.0, 8.0]),
    storage_full=st.sampled_from([False, False, False, True]),
    session=st.sampled_from(["s1", "s2"]),
)
ADD = do(Both.add, st.sampled_from(TASKS), NUMBERS, st.integers(-2, 2), st.integers(0, 120_000))
PLACE = do(Both.place, st.integers(1, 4))
STEPS = st.lists(
    st.one_of(
        SEE,
        ADD,
        ADD,
        PLACE,
        do(Both.end, st.sampled_from(TASKS), ended=st.booleans()),
        do(Both.remove, st.sampled_from(TASKS)),
        do(Both.decline, st.sampled_from(TASKS), st.sampled_from(WORKERS)),
        do(Both.take_by_itself, st.sampled_from(TASKS), NUMBERS, st.sampled_from(WORKERS)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(
    LIMITS,
    st.lists(SHAPES, min_size=1, max_size=3),
    st.lists(TRAITS, min_size=1, max_size=3),
    st.lists(SEE, min_size=2, max_size=5),
    STEPS,
)
def test_the_backlog_decides_as_plain_search_does(
    limits: list[Limit], shapes: list[Shape], traits: list[Traits], fleet: list[Step], steps: list[Step]
) -> None:
    both = Both(limits, shapes, traits)
    for what, args, kwargs in [*fleet, *steps]:
        what(both, *args, **kwargs)
    both.place(100)
