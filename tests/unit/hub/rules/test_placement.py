"""Which worker runs which task."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from broker.messages import Bound
from broker.requirements import unmet
from hub.rules.placement import MAX_QUEUED, Backlog, Place, Placed, Shape, explain, fits, new_rate, place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from broker.messages import Requirement, Scalar


def worker(
    name: str = "w1",
    site: str = "site-a",
    *,
    online: bool = True,
    slots: int = 2,
    kinds: Sequence[str] = ("noop",),
    capabilities: Mapping[str, Scalar] | None = None,
    in_flight: int = 0,
    last_used: int = 0,
    full: bool = False,
) -> Place:
    return Place(
        name,
        site,
        online=online,
        slots=slots,
        kinds=frozenset(kinds),
        capabilities=capabilities or {},
        in_flight=in_flight,
        last_used=last_used,
        storage_full=full,
    )


def asking(
    site: str | None = "site-a", pinned: str | None = None, kind: str = "noop", **requires: Requirement
) -> Shape:
    return Shape(site, pinned, kind, repr(sorted(requires.items())), requires)


def backlog(*tasks: str, shape: Shape | None = None) -> Backlog:
    waiting = Backlog()
    for age, task in enumerate(tasks):
        waiting.add(task, shape or asking(), 0, age)
    return waiting


def among(*places: Place) -> Callable[[Shape], list[Place]]:
    return lambda shape: [one for one in places if one.online and fits(shape, one)]


def test_the_worker_with_the_most_room_is_taken() -> None:
    busy, free = worker("w1", slots=4, in_flight=3), worker("w2", slots=2)
    assert place(backlog("t1"), among(busy, free), limit=9) == [Placed("t1", "w2")]
    assert free.in_flight == 1


def test_a_worker_whose_disk_is_full_gets_nothing() -> None:
    waiting = backlog("t1")
    assert place(waiting, among(worker(full=True)), limit=9) == []
    assert place(waiting, among(worker(full=True), worker("w2", slots=1)), limit=9) == [Placed("t1", "w2")]


def test_ties_go_to_the_least_recently_used() -> None:
    first, second = worker("w1", last_used=8), worker("w2", last_used=3)
    assert place(backlog("t1"), among(first, second), limit=9, turn=9) == [Placed("t1", "w2")]
    assert second.last_used == 9


def test_the_highest_priority_goes_first_then_the_oldest_then_the_first_come() -> None:
    waiting = Backlog()
    for task, priority, created in [("old", 0, 1), ("low", -5, 0), ("young", 0, 2), ("high", 5, 9), ("twin", 0, 1)]:
        waiting.add(task, asking(), priority, created)
    placed = place(waiting, among(worker(slots=9)), limit=9)
    assert [one.task for one in placed] == ["high", "old", "twin", "young", "low"]


def test_priority_counts_across_shapes_too() -> None:
    waiting = Backlog()
    waiting.add("plain", asking(), 0, 0)
    waiting.add("urgent", asking(docker=True), 5, 9)
    able = worker(slots=1, capabilities={"docker": True})
    assert place(waiting, among(able), limit=9) == [Placed("urgent", "w1")]
    assert "plain" in waiting


def test_no_worker_gets_more_than_it_has_room_for() -> None:
    waiting = backlog("t1", "t2", "t3")
    assert len(place(waiting, among(worker(slots=2)), limit=9)) == 2
    assert len(waiting) == 1


def test_no_more_is_placed_than_was_asked() -> None:
    waiting = backlog("t1", "t2", "t3")
    assert len(place(waiting, among(worker(slots=9)), limit=2)) == 2
    assert len(waiting) == 1


def test_a_task_that_fits_nowhere_does_not_hold_up_another_shape() -> None:
    waiting = backlog("needs-docker", shape=asking(docker=True))
    waiting.add("plain", asking(), 0, 9)
    assert place(waiting, among(worker()), limit=9) == [Placed("plain", "w1")]
    assert "needs-docker" in waiting


def test_a_task_does_not_go_to_a_worker_that_it_is_kept_from() -> None:
    declined, other = worker("w1", slots=9), worker("w2", slots=1)
    placed = place(
        backlog("t1"), among(declined, other), limit=9, excluded=lambda task, one: (task, one.worker) == ("t1", "w1")
    )
    assert placed == [Placed("t1", "w2")]


def test_a_task_that_every_worker_declined_does_not_hold_up_those_behind_it() -> None:
    waiting = backlog("declined", "next", "last")
    placed = place(waiting, among(worker(slots=9)), limit=9, excluded=lambda task, _: task == "declined")
    assert [one.task for one in placed] == ["next", "last"]
    assert "declined" in waiting
    assert [one.task for one in place(waiting, among(worker("w2")), limit=9)] == ["declined"]


def test_a_worker_that_works_fast_gets_a_quarter_second_of_work_in_advance() -> None:
    fast = worker(slots=2)
    fast.rate = 100.0
    assert fast.room == 2 + 25
    fast.rate = 1e9
    assert fast.room == 2 + MAX_QUEUED


def test_a_rate_follows_what_is_ended_and_comes_to_rest() -> None:
    rate = 0.0
    for _ in range(40):
        rate = new_rate(rate, 25, 0.25)
    assert rate == pytest.approx(100, rel=0.01)
    for _ in range(60):
        rate = new_rate(rate, 0, 0.25)
    assert rate < 0.01


def test_adding_a_task_twice_changes_nothing() -> None:
    waiting = backlog("t1", "t1")
    assert len(waiting) == 1
    assert len(place(waiting, among(worker(slots=9)), limit=9)) == 1


def test_a_task_that_was_taken_out_is_not_placed() -> None:
    waiting = backlog("t1", "t2")
    waiting.remove("t1")
    waiting.remove("t1")
    assert [one.task for one in place(waiting, among(worker(slots=9)), limit=9)] == ["t2"]


def test_a_task_that_was_taken_out_and_put_back_is_placed_once() -> None:
    waiting = backlog("t1", "t2")
    waiting.remove("t1")
    waiting.add("t1", asking(), 0, 0)
    placed = place(waiting, among(worker(slots=9)), limit=9)
    assert sorted(one.task for one in placed) == ["t1", "t2"]
    assert len(waiting) == 0


def test_a_task_that_comes_back_in_another_shape_is_placed_by_that() -> None:
    waiting = backlog("t1")
    waiting.remove("t1")
    waiting.add("t1", asking(pinned="w2"), 0, 0)
    assert place(waiting, among(worker("w1"), worker("w2")), limit=9) == [Placed("t1", "w2")]


DOCKER = {"docker": True}


@pytest.mark.parametrize(
    ("shape", "places", "words"),
    [
        (asking(), [], "no worker at site-a is known"),
        (asking(), [worker(site="site-b")], "no worker at site-a is known"),
        (asking(site=None), [], "no worker at any site is known"),
        (asking(), [worker(online=False)], "no worker at site-a is online"),
        (asking(site=None), [worker(online=False)], "no worker at any site is online"),
        (asking(kind="sleep"), [worker()], "no online worker at site-a runs sleep"),
        (asking("site-c", docker=True), [worker(site="site-c")], "no online worker at site-c has docker"),
        (
            asking("site-c", docker=True),
            [worker(site="site-c"), worker("w2", "site-c", online=False, capabilities=DOCKER)],
            "no online worker at site-c has docker",
        ),
        (asking(docker=False), [worker(capabilities=DOCKER)], "no online worker at site-a has docker = false"),
        (asking(arch="arm64"), [worker()], "no online worker at site-a has arch = arm64"),
        (
            asking(memory_mb=Bound(min=512)),
            [worker(capabilities={"memory_mb": 256})],
            'no online worker at site-a has memory_mb {"min":512}',
        ),
        (asking(docker=True, gpu=True), [worker()], "no online worker at site-a has docker and gpu"),
        (
            asking(docker=True, gpu=True),
            [worker(capabilities=DOCKER)],
            "no online worker at site-a has gpu",
        ),
        (asking(), [worker(in_flight=2)], "every worker that can run it is busy"),
        (asking(pinned="w9"), [worker()], "no worker w9 is known"),
        (asking(pinned="w1"), [worker(online=False)], "worker w1 is offline"),
        (asking("site-b", "w1"), [worker()], "worker w1: is at site-a"),
        (asking(pinned="w1", kind="sleep"), [worker()], "worker w1: does not run sleep"),
        (asking(pinned="w1", docker=True), [worker()], "worker w1: docker is missing, expected true"),
        (asking(pinned="w1"), [worker(in_flight=2)], "worker w1 is busy"),
        (asking(), [worker(full=True)], "the disk of every worker that can run it is full"),
        (asking(), [worker(full=True), worker("w2", in_flight=2)], "every worker that can run it is busy"),
        (asking(pinned="w1"), [worker(full=True)], "the disk of worker w1 is full"),
    ],
)
def test_a_task_that_waits_says_why(shape: Shape, places: list[Place], words: str) -> None:
    assert explain(shape, places) == words


@pytest.mark.parametrize(
    "places",
    [
        [worker(capabilities={"docker": True}), worker("w2", capabilities={"gpu": True})],
    ],
)
def test_requirements_that_only_different_workers_meet_are_all_named(places: list[Place]) -> None:
    assert explain(asking(docker=True, gpu=True), places) == "no online worker at site-a has docker and gpu"


SITES, KINDS = ["site-a", "site-b"], ["noop", "sleep"]
CAPABILITIES = st.dictionaries(st.sampled_from(["docker", "gpu"]), st.booleans() | st.integers(0, 2), max_size=2)
PLACES = st.lists(
    st.builds(
        worker,
        site=st.sampled_from(SITES),
        online=st.booleans(),
        slots=st.integers(1, 3),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
        capabilities=CAPABILITIES,
        in_flight=st.integers(0, 4),
    ),
    max_size=4,
)
SHAPES = st.builds(
    lambda site, pinned, kind, requires: asking(site, pinned, kind, **requires),
    st.none() | st.sampled_from(SITES),
    st.none() | st.sampled_from(["w0", "w1"]),
    st.sampled_from(KINDS),
    CAPABILITIES,
)
TASKS = st.lists(st.tuples(SHAPES, st.integers(-2, 2), st.integers(0, 5)), max_size=15)


@given(PLACES, TASKS, st.integers(0, 20), st.sets(st.tuples(st.integers(0, 14), st.integers(0, 3)), max_size=6))
def test_whatever_is_placed_is_where_it_may_be_and_what_is_left_fits_nowhere(
    places: list[Place], tasks: list[tuple[Shape, int, int]], limit: int, kept: set[tuple[int, int]]
) -> None:
    for number, one in enumerate(places):
        one.worker = f"w{number}"
    waiting = Backlog()
    shapes = {f"t{number}": shape for number, (shape, _, _) in enumerate(tasks)}
    for number, (shape, priority, created) in enumerate(tasks):
        waiting.add(f"t{number}", shape, priority, created)
    room = {one.worker: max(one.room, 0) for one in places}

    def may_go(task: str, where: Place) -> bool:
        apart = (int(task[1:]), int(where.worker[1:])) in kept
        return where.online and not apart and _is_able(shapes[task], where)

    placed = place(
        waiting,
        among(*places),
        limit=limit,
        excluded=lambda task, where: (int(task[1:]), int(where.worker[1:])) in kept,
    )

    assert len(placed) <= limit
    assert len({decision.task for decision in placed}) == len(placed) == len(tasks) - len(waiting)
    for name, count in Counter(decision.worker for decision in placed).items():
        assert count <= room[name]
    by_name = {one.worker: one for one in places}
    assert all(may_go(decision.task, by_name[decision.worker]) for decision in placed)
    if len(placed) < limit:
        left = [task for task in shapes if task in waiting]
        assert not any(may_go(task, where) and where.room > 0 for task in left for where in places)


def _is_able(shape: Shape, where: Place) -> bool:
    """Say by the contract's own words whether a worker matches."""
    return (
        shape.site in (None, where.site)
        and shape.worker in (None, where.worker)
        and shape.kind in where.kinds
        and unmet(shape.requires, where.capabilities) == []
    )


@given(st.integers(1, 6), st.integers(1, 20))
def test_many_tasks_over_equal_workers_are_balanced(workers: int, rounds: int) -> None:
    places = [worker(f"w{number}", slots=1000) for number in range(workers)]
    waiting = backlog(*(f"t{number}" for number in range(workers * rounds)))
    used = Counter(one.worker for one in place(waiting, among(*places), limit=10**6))
    assert set(used.values()) == {rounds}


def test_one_task_at_a_time_goes_around() -> None:
    places = [worker(f"w{number}") for number in range(3)]
    used: list[str] = []
    for turn in range(6):
        (placed,) = place(backlog(f"t{turn}"), among(*places), limit=9, turn=turn + 1)
        used.append(placed.worker)
        for one in places:
            one.in_flight = 0
    assert used == ["w0", "w1", "w2"] * 2
