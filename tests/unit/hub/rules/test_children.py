"""Who is given a child of a task for each matching worker, and what that child is."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from broker.messages import Outcome, ReplyTo, TaskAccepted, TaskDeclined, TaskFinished, TaskSpec, digest
from hub.rules.children import (
    GONE_AFTER_MS,
    MAX_ID,
    Candidate,
    Member,
    child_id,
    expanded,
    is_unexpanded,
    members,
    on_told,
)
from hub.rules.placement import Place, Shape
from hub.rules.presence import Presence, PresenceState, Reason
from hub.rules.task import Case, Drop, TaskState, new_task
from tests.support.specs import SPECS

NOW = 10 * GONE_AFTER_MS
TASK_ID = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
ONLINE = Presence(PresenceState.ONLINE, last_seen_ms=NOW)


def candidate(worker: str = "w1", site: str = "site-a", presence: Presence = ONLINE, **offers: bool) -> Candidate:
    is_online = presence.state is PresenceState.ONLINE
    return Candidate(Place(worker, site, is_online, 1, frozenset({"noop"}), offers), presence)


def parent(**spec: object) -> Case:
    asked = TaskSpec.model_validate({"kind": "noop", "target": "all", **spec})
    reply = ReplyTo(topic="edge/v1/replies/me")
    return Case(new_task(asked, "p", via="site", site="site-a", pinned=None, now=1000, reply=reply))


def shape(site: str | None = None, worker: str | None = None, **requires: bool) -> Shape:
    return Shape(site, worker, "noop", repr(requires), requires)


def test_each_worker_that_fits_is_given_a_child_wherever_it_is() -> None:
    fleet = [
        candidate("w3", "site-b", gpu=True),
        candidate("w1", gpu=True),
        candidate("w2"),
        Candidate(Place("w4", "site-a", True, 1, frozenset({"sleep"}), {"gpu": True}), ONLINE),  # noqa: FBT003
    ]
    assert members(shape(gpu=True), fleet, NOW) == [Member("w1", "site-a"), Member("w3", "site-b")]
    assert members(shape("site-a", gpu=True), fleet, NOW) == [Member("w1", "site-a")]
    assert members(shape(worker="w2"), fleet, NOW) == [Member("w2", "site-a")]
    assert members(shape("site-b", "w2"), fleet, NOW) == []


@pytest.mark.parametrize(
    ("presence", "given_one"),
    [
        (ONLINE, True),
        (Presence(PresenceState.SUSPECT, Reason.BROKER_RESTARTED, last_seen_ms=NOW - 60_000), True),
        (Presence(PresenceState.OFFLINE, Reason.CONNECTION_LOST, last_seen_ms=NOW - 60_000), True),
        (Presence(PresenceState.OFFLINE, Reason.SITE_LINK_DOWN, last_seen_ms=NOW - GONE_AFTER_MS), True),
        (Presence(PresenceState.OFFLINE, Reason.SITE_LINK_DOWN, last_seen_ms=NOW - GONE_AFTER_MS - 1), False),
        (Presence(PresenceState.OFFLINE, Reason.STOPPED, last_seen_ms=NOW), False),
        (Presence(), False),
    ],
)
def test_a_link_that_is_down_is_no_reason_to_be_left_out_and_being_gone_is(
    presence: Presence, *, given_one: bool
) -> None:
    assert bool(members(shape(), [candidate(presence=presence)], NOW)) is given_one


def test_a_disk_that_is_full_is_no_reason_either() -> None:
    full = candidate()
    full.place.storage_full = True
    assert members(shape(), [full], NOW)


@given(st.from_regex(TASK_ID, fullmatch=True), st.lists(NAMES, min_size=2, unique=True))
def test_every_child_has_an_id_of_its_own_that_is_one(parent: str, workers: list[str]) -> None:
    ids = [child_id(parent, worker, choice) for worker in workers for choice in (0, 1, 2)]
    assert all(re.fullmatch(TASK_ID, one) for one in ids)
    assert all(before != after for before, after in pairwise(sorted(ids)))
    assert ids == [child_id(parent, worker, choice) for worker in workers for choice in (0, 1, 2)]


def test_a_short_id_says_whose_child_it_is() -> None:
    assert child_id("restart-dns", "w1") == "restart-dns:w1"
    assert len(child_id("x" * 100, "w" * 27)) == MAX_ID
    assert re.fullmatch(r"x{100}:[0-9a-f]{16}", child_id("x" * 100, "w" * 28))
    assert len(child_id("x" * 128, "w")) == MAX_ID


@given(SPECS)
def test_a_child_is_what_its_parent_asks_for_of_one_worker(spec: TaskSpec) -> None:
    asked = spec.model_copy(update={"target": "all"})
    case = Case(new_task(asked, "p", via="http", site=None, pinned=None, now=1000))
    child = expanded(case, {Member("w1", "site-a"): "p:w1"}, NOW)["p:w1"].task
    alone = new_task(
        asked.model_copy(update={"target": "one"}), "p:w1", via="http", site="site-a", pinned="w1", now=1000
    )
    assert child == alone._replace(parent="p")
    assert child.digest == digest(asked.model_copy(update={"target": "one"}), "site-a", "w1")


def test_children_expire_with_their_parent_and_only_the_parent_answers() -> None:
    case = parent(expires_in_seconds=60)
    moved = expanded(case, {Member("w1", "site-a"): "p:w1", Member("w2", "site-a"): "p:w2"}, 55_000)
    assert [moved[name].task.expires_ms for name in ("p", "p:w1", "p:w2")] == [61_000] * 3
    assert [moved[name].task.reply is None for name in ("p", "p:w1", "p:w2")] == [False, True, True]
    assert (moved["p"].task.state, moved["p"].task.started_ms) == (TaskState.RUNNING, 55_000)
    assert (is_unexpanded(case.task), is_unexpanded(moved["p"].task)) == (True, False)
    assert not is_unexpanded(moved["p:w1"].task)


def test_a_worker_that_declines_a_parent_does_right_and_one_that_takes_it_is_told_to_stop() -> None:
    running = expanded(parent(), {Member("w1", "site-a"): "p:w1"}, NOW)["p"]
    ref = {"at": 1, "task": "p", "attempt": 1}
    assert on_told(running, TaskDeclined.model_validate({**ref, "reason": "for the hub"}), "w1") == (running, ())
    assert on_told(running, TaskFinished.model_validate({**ref, "outcome": Outcome.SUCCEEDED}), "w1") == (running, ())
    case, (drop,) = on_told(running, TaskAccepted.model_validate(ref), "w1")
    assert case is running
    assert drop == Drop("w1", "p", 1, drop.reason)
