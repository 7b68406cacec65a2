"""What the doctor thinks of workers, sites and tasks that wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from broker.doctor import Finding, Level
from broker.messages import Birth, HeartbeatMessage, JournalDepth, JournalPosition
from hub.doctor.tasks import check_waiting
from hub.doctor.workers import check_clocks, check_presence, check_sites, check_versions
from hub.rules.alike import are_alike
from hub.rules.clocks import Estimate
from hub.rules.placement import Shape
from hub.rules.presence import Presence, PresenceState, Reason
from hub.store.workers import WorkerRow

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000


def a_worker(
    name: str = "w1",
    site: str = "site-a",
    *,
    state: PresenceState = PresenceState.ONLINE,
    reason: Reason | None = None,
    version: str = "0.1.0",
    ahead_ms: int | None = None,
    storage: Any = "ok",  # noqa: ANN401
    capabilities: dict[str, Any] | None = None,
) -> WorkerRow:
    birth = Birth(
        session="s",
        boot="b",
        at=NOW,
        version=version,
        slots=2,
        kinds=("noop",),
        capabilities=capabilities or {},
        heartbeat_interval_seconds=30,
        session_expiry_seconds=60,
        journal=JournalPosition(stream="j", oldest=1, newest=0),
    )
    beat = HeartbeatMessage(
        session="s",
        at=NOW,
        queued=0,
        journal=JournalDepth(rows=0, bytes=0),
        written_bytes_today=0,
        cpu_percent=0,
        memory_bytes=0,
        disk_free_bytes=0,
        storage=storage,
    )
    clocks = {} if ahead_ms is None else {"b": (Estimate(-ahead_ms, 5, NOW + ahead_ms),)}
    presence = Presence(state=state, reason=reason, last_seen_ms=NOW - HOUR_MS)
    return WorkerRow(name, site, presence, birth, beat, clocks)


def amiss(findings: list[Finding]) -> list[tuple[Level, str]]:
    assert all(one.remedy for one in findings if one.level is not Level.OK)
    return [(one.level, one.what) for one in findings if one.level is not Level.OK]


def test_a_fleet_that_is_well_is_said_to_be() -> None:
    workers = [a_worker("w1", ahead_ms=20), a_worker("w2", "site-b", ahead_ms=-20)]
    findings = [
        *check_presence(workers, NOW),
        *check_clocks(workers, NOW),
        *check_versions(workers, "0.1.0"),
        *check_sites(workers, ["site-a"]),
        *check_waiting(Counter({Shape("site-a", None, "noop"): 3}), workers),
    ]
    assert amiss(findings) == []
    assert findings[0].what == "2 workers: 2 online"


def test_who_is_gone_without_a_word_is_named_and_who_stopped_is_not() -> None:
    gone = a_worker("gone", state=PresenceState.OFFLINE, reason=Reason.CONNECTION_LOST)
    stopped = a_worker("stopped", state=PresenceState.OFFLINE, reason=Reason.STOPPED)
    assert amiss(check_presence([gone, stopped], NOW)) == [
        (Level.WARN, "offline: gone (connection_lost, last seen 60 min ago)")
    ]


def test_no_worker_at_all_and_a_full_disk_are_told() -> None:
    assert amiss(check_presence([], NOW)) == [(Level.WARN, "no worker was ever seen")]
    assert amiss(check_presence([a_worker(storage="full")], NOW)) == [(Level.BAD, "the disk of w1 takes nothing")]


def test_a_clock_that_is_far_off_is_told_with_which_way() -> None:
    workers = [a_worker("w1", ahead_ms=2 * HOUR_MS), a_worker("w2", ahead_ms=0), a_worker("w3", ahead_ms=-40_000)]
    assert amiss(check_clocks([*workers, a_worker("w4", ahead_ms=0)], NOW)) == [
        (Level.WARN, "the clock of w1 is 2 h ahead of this one"),
        (Level.WARN, "the clock of w3 is 40 s behind this one"),
    ]


def test_where_most_workers_disagree_with_the_hub_its_own_clock_is_suspected() -> None:
    workers = [a_worker(f"w{n}", ahead_ms=HOUR_MS) for n in range(3)]
    ((level, what),) = amiss(check_clocks([*workers, a_worker("w9", ahead_ms=0)], NOW))
    assert level is Level.BAD
    assert what == "the clocks of 3 of 4 workers are far from this one: most likely this one is wrong"


def test_agents_that_are_newer_than_the_hub_are_bad_and_older_ones_a_warning() -> None:
    workers = [a_worker("new", version="0.10.0"), a_worker("old", version="0.8.3"), a_worker("same", version="0.9.0")]
    workers.append(a_worker("gone", version="0.1.0", state=PresenceState.OFFLINE))
    assert amiss(check_versions(workers, "0.9.0")) == [
        (Level.BAD, "newer than this hub (0.9.0): new"),
        (Level.WARN, "older than this hub (0.9.0): old"),
    ]


def test_sites_that_look_like_one_misspelt_are_told() -> None:
    workers = [
        a_worker("w1", "home-lab"),
        a_worker("w2", "homelab"),
        a_worker("w3", "site-a"),
        a_worker("w4", "site-b"),
    ]
    assert amiss(check_sites(workers, [])) == [(Level.WARN, "there are workers at both 'home-lab' and 'homelab'")]


def test_tasks_for_a_site_where_nobody_is_are_told_with_the_site_that_was_meant() -> None:
    assert amiss(check_sites([a_worker(site="berlin")], ["berln", "berln", "tokyo"])) == [
        (Level.WARN, "tasks wait for 'berln', where no worker is, but there are some at 'berlin'")
    ]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("datacenter-1", "datacentre-1", True),  # neighbours that have changed places
        ("datacenter-1", "data-center-1", True),
        ("berlin", "berlinn", True),
        ("berlin", "barlin", True),
        ("datacenter-1", "datacenter-2", False),
        ("aws-us-east-1", "aws-us-west-1", False),
        ("north", "south", False),
        ("lab", "lob", False),  # too short to tell
        ("a", "b", False),
        ("edge-x", "x-edge", False),
    ],
)
def test_what_looks_like_a_slip_and_what_does_not(one: str, other: str, alike: bool) -> None:  # noqa: FBT001
    assert are_alike(one, other) is are_alike(other, one) is alike


def test_what_nobody_can_do_is_told_whoever_is_online() -> None:
    workers = [a_worker("w1"), a_worker("w2", "site-b", state=PresenceState.OFFLINE, capabilities={"docker": True})]
    waiting = Counter(
        {
            Shape("site-a", None, "noop", "docker", {"docker": True}): 4,
            Shape("site-b", None, "noop", "docker", {"docker": True}): 2,  # w2 can, once it is back
            Shape("site-z", None, "noop"): 1,
            Shape(None, "w1", "camera"): 1,
        }
    )
    assert sorted(what for _, what in amiss(check_waiting(waiting, workers))) == [
        "1 task waits for what nobody can do, online or not: no worker at site-z is known",
        "1 task waits for what nobody can do, online or not: worker w1: does not run camera",
        "4 tasks wait for what nobody can do, online or not: no worker at site-a has docker",
    ]
