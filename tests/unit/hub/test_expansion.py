"""When parents are looked at, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from broker.messages import Birth, JournalPosition, TaskSpec
from hub.expansion import MAX_CHILDREN, Expansion
from hub.fleet import Fleet
from hub.rules.presence import Presence, PresenceState
from hub.rules.task import Task, new_task
from hub.rules.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from functools import partial

    from hub.decisions import Decisions
    from hub.worker import Worker


class CountedFleet(Fleet):
    """A fleet that counts how often somebody looks at all of it."""

    looks = 0

    def __iter__(self) -> Iterator[Worker]:
        self.looks += 1
        return super().__iter__()


class NotedDecisions:
    """Notes what is decided, and commits nothing."""

    def __init__(self) -> None:
        self.plans: list[dict[str, list[str]]] = []

    async def carry_out(self, work: partial[Any], tasks: list[str]) -> None:
        plans = work.keywords["plans"]
        assert list(plans) == tasks
        self.plans.append({parent: [one.worker for one in members] for parent, members in plans.items()})


def parent(name: str, **requires: bool) -> Task:
    asked = TaskSpec.model_validate({"kind": "noop", "target": "all", "requires": requires})
    return new_task(asked, name, via="http", site=None, pinned=None, now=1)


def come(fleet: Fleet, name: str, **capabilities: bool) -> Worker:
    worker = fleet.at_home(name, "site-a")
    worker.birth = Birth.model_validate(
        {
            "session": "s",
            "boot": "b",
            "at": 1,
            "version": "1",
            "slots": 1,
            "kinds": ("noop",),
            "capabilities": capabilities,
            "heartbeat_interval_seconds": 30.0,
            "session_expiry_seconds": 0,
            "journal": JournalPosition(stream="j", oldest=1, newest=0),
        }
    )
    worker.presence = Presence(PresenceState.ONLINE)
    fleet.refresh(worker)
    return worker


def made(fleet: Fleet) -> tuple[Expansion, Waiting, NotedDecisions]:
    waiting, decisions = Waiting(10_000), NotedDecisions()
    return Expansion(fleet, waiting, cast("Decisions", decisions)), waiting, decisions


async def test_a_worker_that_changes_is_looked_at_and_the_rest_of_the_fleet_only_if_it_matches() -> None:
    fleet = CountedFleet()
    expansion, waiting, decisions = made(fleet)
    other = come(fleet, "w1")
    for number in range(3):
        waiting.put(parent(f"p{number}", gpu=True), 1)
    await expansion.expand()
    assert (fleet.looks, decisions.plans) == (1, [])  # those that ask for the same share a look

    for _ in range(10):
        expansion.on_fleet(other)
        await expansion.expand()
    assert (fleet.looks, decisions.plans) == (1, [])

    expansion.on_fleet(come(fleet, "w2", gpu=True))
    await expansion.expand()
    assert (fleet.looks, decisions.plans) == (2, [{"p0": ["w2"], "p1": ["w2"], "p2": ["w2"]}])


async def test_a_parent_that_was_expanded_or_has_gone_is_not_looked_at_again() -> None:
    fleet = CountedFleet()
    expansion, waiting, decisions = made(fleet)
    worker = come(fleet, "w1")
    waiting.put(parent("p"), 1)
    assert expansion.is_expanding(parent("p"))
    await expansion.expand()
    waiting.take_out("p")
    expansion.on_fleet(worker)
    await expansion.expand()
    assert decisions.plans == [{"p": ["w1"]}]
    assert not expansion.is_expanding(parent("p"))


async def test_many_children_go_in_several_transactions_and_those_of_one_parent_in_one() -> None:
    fleet = Fleet()
    expansion, waiting, decisions = made(fleet)
    for number in range(MAX_CHILDREN // 2 + 1):
        come(fleet, f"w{number}")
    for number in range(5):
        waiting.put(parent(f"p{number}"), 1)
    await expansion.expand()
    assert [list(plans) for plans in decisions.plans] == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert {len(workers) for plans in decisions.plans for workers in plans.values()} == {MAX_CHILDREN // 2 + 1}
