"""Why a task is not placed, and what each worker is to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker.messages import Bound
from hub.rules.placement import ALL_DECLINED, Bar, Limit, Verdict, explain, verdict
from hub.rules.placement.limits import Usage, caps
from tests.unit.hub.rules.placement.cases import asking, worker

if TYPE_CHECKING:
    from hub.rules.placement import Place, Shape

DOCKER = {"docker": True}
BACKUP = Limit(labels={"job": "backup"}, per="site", max=1)
A_BACKUP = asking(None, labels={"job": "backup"})


def bar(shape: Shape, *limits: Limit, held: dict[str, Place] | None = None, kept_from: tuple[str, ...] = ()) -> Bar:
    """Return what keeps a task of `shape` from workers, where others like it are `held`."""
    usage = Usage()
    for task, place in (held or {}).items():
        usage.hold(task, caps(limits, shape), place)
    return Bar(frozenset(kept_from), caps(limits, shape), usage)


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


def test_a_limit_that_is_reached_is_named_with_where() -> None:
    one, other = worker("w1"), worker("w2", "site-b")
    reached = bar(A_BACKUP, BACKUP, held={"t1": one, "t2": other})
    assert explain(A_BACKUP, [one, other], reached) == 'limit "job=backup per site: 1" is reached at site-a, site-b'
    assert explain(asking(None, "w1", labels={"job": "backup"}), [one], reached) == (
        'limit "job=backup per site: 1" is reached at site-a'
    )


def test_a_limit_at_one_site_does_not_keep_a_task_from_going_elsewhere() -> None:
    one, other = worker("w1"), worker("w2", "site-b")
    assert explain(A_BACKUP, [one, other], bar(A_BACKUP, BACKUP, held={"t1": one})) == "it is about to be assigned"
    other.in_flight = 2
    words = 'limit "job=backup per site: 1" is reached at site-a'
    assert explain(A_BACKUP, [one, other], bar(A_BACKUP, BACKUP, held={"t1": one})) == words


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Limit(max=0), 'limit "all: 0" is reached'),
        (Limit(site="site-a", max=0), 'limit "at site-a: 0" is reached'),
        (Limit(kind="noop", per="worker", max=0), 'limit "kind=noop per worker: 0" is reached at w1'),
        (Limit(each="job", max=0), 'limit "for job=backup: 0" is reached'),
    ],
)
def test_every_limit_is_said_as_it_concerns_the_task(limit: Limit, words: str) -> None:
    assert explain(A_BACKUP, [worker()], bar(A_BACKUP, limit)) == words


def test_only_the_first_of_many_places_are_named() -> None:
    places = [worker(f"w{number}", f"site-{number}") for number in range(5)]
    limit = Limit(per="site", max=0)
    words = 'limit "per site: 0" is reached at site-0, site-1, site-2 and 2 more'
    assert explain(asking(None), places, bar(asking(None), limit)) == words


def test_a_task_that_all_have_declined_says_so() -> None:
    assert explain(asking(), [worker()], bar(asking(), kept_from=("w1",))) == ALL_DECLINED
    assert explain(asking(pinned="w1"), [worker()], bar(asking(), kept_from=("w1",))) == ALL_DECLINED


def test_a_full_disk_keeps_a_task_waiting_that_the_others_have_declined() -> None:
    places = [worker(), worker("w2", full=True)]
    words = "the disk of every worker that can run it is full"
    assert explain(asking(), places, bar(asking(), kept_from=("w1",))) == words


@pytest.mark.parametrize(
    ("shape", "place", "expected", "why"),
    [
        (asking(), worker(), Verdict.COULD, "2 of 2 slots are free"),
        (asking(), worker(in_flight=1), Verdict.COULD, "1 of 2 slots is free"),
        (asking(), worker(in_flight=2), Verdict.BUSY, "it has 2 tasks for 2 slots"),
        (asking(), worker(full=True), Verdict.FULL, "its disk is full"),
        (asking(), worker(online=False), Verdict.OFFLINE, "it is not online"),
        (asking("site-b"), worker(online=False), Verdict.MISFIT, "is at site-a"),
        (asking(pinned="w2"), worker(), Verdict.MISFIT, "is not w2"),
        (asking(kind="sleep"), worker(), Verdict.MISFIT, "does not run sleep"),
        (asking(docker=True), worker(), Verdict.MISFIT, "docker is missing, expected true"),
    ],
)
def test_every_worker_has_a_verdict(shape: Shape, place: Place, expected: Verdict, why: str) -> None:
    assert verdict(shape, place) == (expected, why)


def test_a_worker_with_room_only_in_its_queue_says_so() -> None:
    fast = worker(in_flight=2)
    fast.rate = 10.0
    assert verdict(asking(), fast) == (Verdict.COULD, "0 of 2 slots are free, and room for 3 in its queue")


def test_who_declined_and_who_is_limited_is_told_apart() -> None:
    one, other = worker("w1"), worker("w2", "site-b")
    kept = bar(A_BACKUP, BACKUP, held={"t1": other}, kept_from=("w1",))
    assert verdict(A_BACKUP, one, kept).verdict is Verdict.DECLINED
    assert verdict(A_BACKUP, other, kept) == (Verdict.LIMITED, 'limit "job=backup per site: 1" is reached')


def test_a_task_does_not_keep_itself_from_a_worker_by_the_limit_that_it_counts_in() -> None:
    one, other = worker("w1"), worker("w2")
    alone = replace(bar(A_BACKUP, BACKUP, held={"t1": one}), task="t1")
    assert verdict(A_BACKUP, other, alone).verdict is Verdict.COULD
    assert verdict(A_BACKUP, other, replace(alone, task="t2")).verdict is Verdict.LIMITED
    beyond = replace(bar(A_BACKUP, BACKUP, held={"t1": one, "t3": other}), task="t1")
    assert verdict(A_BACKUP, other, beyond).verdict is Verdict.LIMITED
