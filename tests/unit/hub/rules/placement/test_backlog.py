"""Which task goes to which worker next."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from broker.priority import AGE_MS
from hub.rules.placement import Backlog, Limit, Placed, new_rate
from tests.unit.hub.rules.placement.cases import asking, backlog, end, worker

if TYPE_CHECKING:
    from hub.rules.placement import Place
    from hub.rules.placement.pools import Pool

BACKUP = {"job": "backup"}


def names(placed: list[Placed]) -> list[str]:
    return [one.task for one in placed]


def pools_of(waiting: Backlog) -> list[Pool]:
    return list(waiting._matching._pools._pools.values())  # noqa: SLF001


# -- to whom -----------------------------------------------------------------------------------------------------------


def test_the_worker_with_the_most_room_is_taken() -> None:
    busy, free = worker("w1", slots=4, in_flight=3), worker("w2", slots=2)
    assert backlog("t1", among=[busy, free]).place(9) == [Placed("t1", "w2")]
    assert free.in_flight == 1


def test_a_worker_whose_disk_is_full_gets_nothing() -> None:
    waiting = backlog("t1", among=[worker(full=True)])
    assert waiting.place(9) == []
    waiting.see(worker("w2", slots=1))
    assert waiting.place(9) == [Placed("t1", "w2")]


def test_ties_go_to_the_least_recently_used() -> None:
    first, second = worker("w1", last_used=8), worker("w2", last_used=3)
    assert backlog("t1", among=[first, second]).place(9) == [Placed("t1", "w2")]


def test_one_task_at_a_time_goes_around() -> None:
    places = [worker(f"w{number}") for number in range(3)]
    waiting = backlog(among=places)
    used: list[str] = []
    for turn in range(6):
        waiting.add(f"t{turn}", asking(), 0, turn)
        (placed,) = waiting.place(9)
        used.append(placed.worker)
        end(waiting, placed.task, places[int(placed.worker[1:])])
    assert used == ["w0", "w1", "w2"] * 2


@given(st.integers(1, 6), st.integers(1, 20))
def test_many_tasks_over_equal_workers_are_balanced(workers: int, rounds: int) -> None:
    places = [worker(f"w{number}", slots=1000) for number in range(workers)]
    waiting = backlog(*(f"t{number}" for number in range(workers * rounds)), among=places)
    used = Counter(one.worker for one in waiting.place(10**6))
    assert set(used.values()) == {rounds}


@pytest.mark.parametrize("busy", [0.3, 0.8, 1.5])
def test_the_busiest_of_equal_workers_gets_at_most_1_3_times_the_least_busy(busy: float) -> None:
    """Tasks come at `busy` times what the workers can do, and end in any order; rates are followed as the hub does."""
    dice = random.Random(7)  # noqa: S311  the same schedule each time
    places = {f"w{number}": worker(f"w{number}", slots=4) for number in range(5)}
    waiting = backlog(among=list(places.values()))
    used: Counter[str] = Counter()
    running: dict[str, list[str]] = {name: [] for name in places}
    for tick in range(2_000):  # of 10 ms each; a task takes 40 ms in the mean, so a worker ends one a tick
        for number in range(int(dice.uniform(0, 2 * busy * len(places)))):
            waiting.add(f"t{tick}-{number}", asking(), 0, tick)
        for placed in waiting.place(500):
            used[placed.worker] += 1
            running[placed.worker].append(placed.task)
        for name, tasks in running.items():
            ended = [task for task in tasks[:4] if dice.random() < 0.25]
            running[name] = [task for task in tasks if task not in ended]
            for task in ended:
                end(waiting, task, places[name])
            places[name].rate = new_rate(places[name].rate, len(ended), 0.01)
            waiting.on_room(places[name])
    assert max(used.values()) <= 1.3 * min(used[name] for name in places)


# -- which first -------------------------------------------------------------------------------------------------------


def test_the_highest_priority_goes_first_then_the_oldest_then_the_first_come() -> None:
    waiting = backlog(among=[worker(slots=9)])
    for task, priority, created in [("old", 0, 1), ("low", -5, 0), ("young", 0, 2), ("high", 5, 9), ("twin", 0, 1)]:
        waiting.add(task, asking(), priority, created)
    assert names(waiting.place(9)) == ["high", "old", "twin", "young", "low"]


def test_priority_counts_across_shapes_too() -> None:
    waiting = backlog(among=[worker(slots=1, capabilities={"docker": True})])
    waiting.add("plain", asking(), 0, 0)
    waiting.add("urgent", asking(docker=True), 5, 9)
    assert waiting.place(9) == [Placed("urgent", "w1")]
    assert "plain" in waiting


def test_an_old_task_does_not_wait_for_ever_behind_a_stream_of_higher_ones() -> None:
    place = worker(slots=1)
    waiting = backlog(among=[place])
    waiting.add("old", asking(), 0, 0)
    for now in range(0, 10 * AGE_MS, 1000):  # each second another, three steps higher
        waiting.add(f"t{now}", asking(), 3, now)
        (placed,) = waiting.place(1)
        if placed.task == "old":
            assert now == 3 * AGE_MS
            return
        end(waiting, placed.task, place)
    pytest.fail("it still waits")


# -- how many ----------------------------------------------------------------------------------------------------------


def test_no_worker_gets_more_than_it_has_room_for() -> None:
    waiting = backlog("t1", "t2", "t3", among=[worker(slots=2)])
    assert len(waiting.place(9)) == 2
    assert len(waiting) == 1


def test_no_more_is_placed_than_was_asked() -> None:
    waiting = backlog("t1", "t2", "t3", among=[worker(slots=9)])
    assert len(waiting.place(2)) == 2
    assert len(waiting) == 1


def test_a_slot_that_becomes_free_is_used() -> None:
    place = worker(slots=1)
    waiting = backlog("t1", "t2", among=[place])
    assert names(waiting.place(9)) == ["t1"]
    assert waiting.place(9) == []
    end(waiting, "t1", place)
    assert names(waiting.place(9)) == ["t2"]


# -- what fits ---------------------------------------------------------------------------------------------------------


def test_a_task_that_fits_nowhere_does_not_hold_up_another_shape() -> None:
    waiting = backlog("needs-docker", shape=asking(docker=True), among=[worker()])
    waiting.add("plain", asking(), 0, 9)
    assert waiting.place(9) == [Placed("plain", "w1")]
    assert "needs-docker" in waiting


def test_a_worker_that_comes_gets_what_waits_for_it() -> None:
    waiting = backlog("t1", shape=asking(docker=True), among=[worker()])
    assert waiting.place(9) == []
    waiting.see(worker("w2", capabilities={"docker": True}))
    assert waiting.place(9) == [Placed("t1", "w2")]


def test_a_worker_that_can_do_other_things_now_is_seen_so() -> None:
    place = worker(capabilities={"docker": True})
    waiting = backlog("t1", "t2", shape=asking(docker=True), among=[place])
    place.capabilities = {}
    waiting.see(place)
    assert waiting.place(9) == []
    place.capabilities = {"docker": True}
    waiting.see(place)
    assert len(waiting.place(9)) == 2


def test_a_worker_that_moves_to_another_site_takes_the_tasks_of_that() -> None:
    place = worker(slots=1)
    waiting = backlog("here", among=[place])
    waiting.add("there", asking("site-b"), 0, 0)
    place.site = "site-b"
    waiting.see(place)
    assert waiting.place(9) == [Placed("there", "w1")]


def test_a_task_for_one_worker_goes_to_that_and_waits_for_it() -> None:
    waiting = backlog("t1", "t2", shape=asking(None, "w2"), among=[worker("w1")])
    assert waiting.place(9) == []
    waiting.see(worker("w2", "site-b"))
    assert waiting.place(9) == [Placed("t1", "w2"), Placed("t2", "w2")]


def test_true_is_not_1() -> None:
    waiting = backlog("t1", shape=asking(gpu=True), among=[worker("w1", capabilities={"gpu": 1})])
    assert waiting.place(9) == []
    waiting.see(worker("w2", capabilities={"gpu": True}))
    assert waiting.place(9) == [Placed("t1", "w2")]


def test_lanes_that_part_when_a_new_sort_of_worker_comes_go_on_as_they_did() -> None:
    """Both have room at the same worker; another comes that can do only one of them, and has none."""
    waiting = backlog("t1", among=[worker(kinds=("noop", "sleep"))])
    waiting.add("t2", asking(kind="sleep"), 0, 1)
    waiting.see(worker("w2", kinds=("sleep",), in_flight=2))
    assert waiting.place(9) == [Placed("t1", "w1"), Placed("t2", "w1")]


def test_lanes_that_meet_when_a_sort_of_worker_is_no_more_go_on_as_they_did() -> None:
    """One shape could go to both workers, the other to one; then both can go to that one, which has room."""
    gone = worker("w2", in_flight=2)
    waiting = backlog(among=[worker("w1", kinds=("noop", "sleep")), gone])
    waiting.add("t2", asking(kind="sleep"), 0, 1)
    assert waiting.place(9) == [Placed("t2", "w1")]
    waiting.add("t1", asking(), 0, 0)
    gone.kinds = frozenset({"other"})
    waiting.see(gone)
    assert {lane.pool for lane in waiting._lanes.values()} == set(pools_of(waiting))  # noqa: SLF001
    assert len(pools_of(waiting)) == 1
    assert waiting.place(9) == [Placed("t1", "w1")]


# -- declined ----------------------------------------------------------------------------------------------------------


def test_a_task_does_not_go_to_a_worker_that_declined_it() -> None:
    waiting = backlog("t1", among=[worker("w1", slots=9), worker("w2", slots=1)])
    waiting.decline("t1", "w1", "s1")
    assert waiting.place(9) == [Placed("t1", "w2")]


def test_the_next_session_of_a_worker_may_take_what_it_declined() -> None:
    place = worker("w1")
    waiting = backlog("t1", among=[place])
    waiting.decline("t1", "w1", "s1")
    assert waiting.place(9) == []
    place.session = "s2"
    waiting.see(place)
    assert waiting.place(9) == [Placed("t1", "w1")]


def test_a_task_that_every_worker_declined_does_not_hold_up_those_behind_it() -> None:
    waiting = backlog("declined", "next", "last", among=[worker(slots=9)])
    waiting.decline("declined", "w1", "s1")
    assert names(waiting.place(9)) == ["next", "last"]
    assert "declined" in waiting
    waiting.see(worker("w2"))
    assert waiting.place(9) == [Placed("declined", "w2")]


def test_a_task_that_was_put_aside_goes_to_the_next_who_has_room() -> None:
    declined, busy = worker("w1", slots=9), worker("w2", slots=1, in_flight=1)
    waiting = backlog("t1", among=[declined, busy])
    waiting.decline("t1", "w1", "s1")
    assert waiting.place(9) == []
    busy.in_flight = 0
    waiting.on_room(busy)
    assert waiting.place(9) == [Placed("t1", "w2")]


def test_of_those_that_have_not_declined_it_the_one_with_the_most_room_is_taken() -> None:
    places = [worker("w1", slots=9), worker("w2", slots=2), worker("w3", slots=5, capabilities={"docker": True})]
    waiting = backlog("t1", among=places)
    waiting.decline("t1", "w1", "s1")
    assert waiting.place(9) == [Placed("t1", "w3")]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_limit_is_kept_and_holds_up_no_other_task() -> None:
    waiting = backlog(
        "b1", "b2", shape=asking(labels=BACKUP), among=[worker(slots=9)], limits=[Limit(labels=BACKUP, max=1)]
    )
    waiting.add("plain", asking(), 0, 9)
    assert names(waiting.place(9)) == ["b1", "plain"]


def test_a_limit_that_is_free_again_lets_the_next_go() -> None:
    place = worker(slots=9)
    waiting = backlog("b1", "b2", shape=asking(labels=BACKUP), among=[place], limits=[Limit(labels=BACKUP, max=1)])
    assert names(waiting.place(9)) == ["b1"]
    waiting.release("b1")
    assert names(waiting.place(9)) == ["b2"]


@pytest.mark.parametrize("per", ["fleet", "site", "worker"])
def test_a_limit_that_others_have_used_up_wakes_who_waits_for_it(per: str) -> None:
    """The room is there all the time: nothing is told but that the limit is free."""
    place = worker(slots=9)
    limit = Limit.model_validate({"labels": BACKUP, "per": per, "max": 1})
    waiting = backlog("b1", shape=asking(labels=BACKUP), among=[place], limits=[limit])
    waiting.hold("injected", asking(kind="sleep", labels=BACKUP), place)
    assert waiting.place(9) == []
    waiting.release("injected")
    assert names(waiting.place(9)) == ["b1"]


def test_a_limit_per_site_lets_each_site_have_its_own() -> None:
    places = [worker("w1", slots=9), worker("w2", slots=9), worker("w3", "site-b", slots=1)]
    limit = Limit(labels=BACKUP, per="site", max=1)
    waiting = backlog("b1", "b2", "b3", shape=asking(None, labels=BACKUP), among=places, limits=[limit])
    assert {one.worker for one in waiting.place(9)} == {"w1", "w3"}


def test_a_limit_per_worker_goes_around_the_workers() -> None:
    places = [worker(f"w{number}", slots=9) for number in range(3)]
    limit = Limit(labels=BACKUP, per="worker", max=1)
    waiting = backlog("b1", "b2", "b3", "b4", shape=asking(labels=BACKUP), among=places, limits=[limit])
    assert sorted(one.worker for one in waiting.place(9)) == ["w0", "w1", "w2"]


def test_a_limit_for_each_value_of_a_label_counts_each_for_itself() -> None:
    waiting = backlog(among=[worker(slots=9)], limits=[Limit(each="customer", max=1)])
    for task, customer in [("a1", "acme"), ("a2", "acme"), ("b1", "other")]:
        waiting.add(task, asking(labels={"customer": customer}), 0, 0)
    assert names(waiting.place(9)) == ["a1", "b1"]


# -- in and out --------------------------------------------------------------------------------------------------------


def test_adding_a_task_twice_changes_nothing() -> None:
    waiting = backlog("t1", "t1", among=[worker(slots=9)])
    assert len(waiting) == 1
    assert len(waiting.place(9)) == 1


def test_a_task_that_was_taken_out_is_not_placed() -> None:
    waiting = backlog("t1", "t2", among=[worker(slots=9)])
    waiting.remove("t1")
    waiting.remove("t1")
    assert names(waiting.place(9)) == ["t2"]


def test_a_task_that_was_taken_out_and_put_back_is_placed_once() -> None:
    waiting = backlog("t1", "t2", among=[worker(slots=9)])
    waiting.remove("t1")
    waiting.add("t1", asking(), 0, 0)
    assert sorted(names(waiting.place(9))) == ["t1", "t2"]
    assert len(waiting) == 0


def test_a_task_that_comes_back_in_another_shape_is_placed_by_that() -> None:
    waiting = backlog("t1", among=[worker("w1"), worker("w2")])
    waiting.remove("t1")
    waiting.add("t1", asking(pinned="w2"), 0, 0)
    assert waiting.place(9) == [Placed("t1", "w2")]


# -- what it costs -----------------------------------------------------------------------------------------------------


class Counted(dict[str, bool]):
    """Capabilities that count how often they are looked into."""

    looks = 0

    def get(self, key: str, default: bool | None = None) -> bool | None:  # type: ignore[override]  # noqa: FBT001
        Counted.looks += 1
        return super().get(key, default)


@pytest.mark.parametrize("workers", [10, 2_000])
def test_who_can_do_what_is_asked_once_for_all_that_are_alike(workers: int) -> None:
    places = [worker(f"w{number}", capabilities=Counted(docker=True)) for number in range(workers)]
    waiting = backlog(among=places)
    Counted.looks = 0
    for number in range(100):
        waiting.add(f"t{number}", asking(docker=True), 0, number)
        waiting.place(1)
        waiting.see(places[number % workers])
    assert Counted.looks == 1


def test_lanes_without_tasks_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.rules.placement.backlog.MAX_IDLE_LANES", 10)
    place = worker(slots=1, capabilities={"memory_mb": 10_000})
    waiting = backlog(among=[place])
    for number in range(100):
        waiting.add(f"t{number}", asking(memory_mb=10_000, docker=number), 0, number)
        waiting.remove(f"t{number}")
    assert len(waiting._lanes) == 10  # noqa: SLF001
    assert sum(len(pool.members) for pool in pools_of(waiting)) == 10
    waiting.add("t", asking(), 0, 0)
    assert names(waiting.place(9)) == ["t"]


def test_sites_and_workers_that_tasks_ask_for_in_vain_are_not_remembered_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.rules.placement.backlog.MAX_IDLE_LANES", 10)
    waiting = backlog(among=[worker()])
    for number in range(100):
        waiting.add(f"s{number}", asking(f"site-{number}"), 0, number)
        waiting.add(f"w{number}", asking(None, f"w-{number}"), 0, number)
        waiting.remove(f"s{number}")
        waiting.remove(f"w{number}")
    assert len(waiting._matching._lanes) + len(waiting._matching._pinned) == 10  # noqa: SLF001
    waiting.add("t", asking(), 0, 0)
    assert names(waiting.place(9)) == ["t"]


def test_a_limit_concerns_also_tasks_that_came_to_a_worker_without_the_hub() -> None:
    place: Place = worker(slots=9)
    waiting = Backlog([Limit(max=2)])
    waiting.see(place)
    for task in ("x1", "x2", "x3"):
        waiting.hold(task, asking(), place)
    waiting.add("t1", asking(), 0, 0)
    assert waiting.place(9) == []
    waiting.release("x1")
    assert waiting.place(9) == []
    waiting.release("x2")
    assert names(waiting.place(9)) == ["t1"]
