"""Whether a worker is there (DESIGN §6): births, farewells, heartbeats, silence, and the hub's own absence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, strategies as st

from hub.rules.presence import (
    OFFLINE_AFTER_INTERVALS,
    SUSPECT_AFTER_INTERVALS,
    Presence,
    PresenceState,
    Reason,
    is_over,
    on_birth,
    on_cut,
    on_farewell,
    on_frozen,
    on_heartbeat,
    on_link_lost,
    on_link_up,
    on_tick,
    was_frozen,
)

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 1000
NEVER_SEEN = Presence()
ONLINE = on_birth(NEVER_SEEN, "s1", INTERVAL, retained=False, now=100)


def after(intervals: float, since: int = 100) -> int:
    return since + int(intervals * INTERVAL) + 1


def test_a_worker_that_was_never_seen_is_offline() -> None:
    assert (NEVER_SEEN.state, NEVER_SEEN.reason) == (PresenceState.OFFLINE, None)


def test_a_birth_makes_it_online_at_once() -> None:
    assert (
        Presence(
            state=PresenceState.ONLINE,
            reason=None,
            since_ms=100,
            session="s1",
            last_seen_ms=100,
            waiting_since_ms=100,
            interval_ms=INTERVAL,
        )
        == ONLINE
    )


def test_a_birth_of_a_new_session_keeps_since_when_it_is_online() -> None:
    reborn = on_birth(ONLINE, "s2", INTERVAL, retained=False, now=500)
    assert (reborn.session, reborn.since_ms, reborn.last_seen_ms) == ("s2", 100, 500)


@pytest.mark.parametrize(("stopped", "reason"), [(True, Reason.STOPPED), (False, Reason.CONNECTION_LOST)])
def test_a_farewell_says_why(stopped: bool, reason: Reason) -> None:  # noqa: FBT001
    gone = on_farewell(ONLINE, "s1", stopped=stopped, now=700)
    assert (gone.state, gone.reason, gone.since_ms) == (PresenceState.OFFLINE, reason, 700)
    assert gone.last_seen_ms == 100


def test_a_late_will_does_not_end_the_new_session() -> None:
    reborn = on_birth(ONLINE, "s2", INTERVAL, retained=False, now=500)
    assert on_farewell(reborn, "s1", stopped=False, now=600) == reborn


def test_a_farewell_of_a_worker_that_was_never_seen_is_believed() -> None:
    gone = on_farewell(NEVER_SEEN, "s1", stopped=True, now=5)
    assert (gone.state, gone.reason, gone.session) == (PresenceState.OFFLINE, Reason.STOPPED, "s1")


def test_a_late_will_after_a_stop_names_the_later_reason() -> None:
    stopped = on_farewell(ONLINE, "s1", stopped=True, now=700)
    assert on_farewell(stopped, "s1", stopped=True, now=900) == stopped


def test_a_retained_birth_alone_is_not_believed() -> None:
    seen = on_birth(NEVER_SEEN, "s1", INTERVAL, retained=True, now=100)
    assert (seen.state, seen.reason) == (PresenceState.SUSPECT, Reason.STALE_RETAINED)
    assert seen.last_seen_ms == 0


def test_a_retained_birth_with_no_heartbeat_behind_it_is_stale() -> None:
    seen = on_birth(NEVER_SEEN, "s1", INTERVAL, retained=True, now=100)
    assert on_tick(seen, after(SUSPECT_AFTER_INTERVALS) - 2).state is PresenceState.SUSPECT
    stale = on_tick(seen, after(SUSPECT_AFTER_INTERVALS))
    assert (stale.state, stale.reason) == (PresenceState.OFFLINE, Reason.STALE_RETAINED)


def test_a_heartbeat_behind_a_retained_birth_makes_it_online() -> None:
    seen = on_birth(NEVER_SEEN, "s1", INTERVAL, retained=True, now=100)
    heard = on_heartbeat(seen, "s1", retained=False, now=200)
    assert (heard.state, heard.reason, heard.last_seen_ms) == (PresenceState.ONLINE, None, 200)


def test_a_retained_heartbeat_proves_nothing() -> None:
    seen = on_birth(NEVER_SEEN, "s1", INTERVAL, retained=True, now=100)
    assert on_heartbeat(seen, "s1", retained=True, now=200) == seen


def test_a_retained_birth_of_the_session_that_is_online_changes_nothing() -> None:
    assert on_birth(ONLINE, "s1", INTERVAL, retained=True, now=500) == ONLINE


def test_a_retained_birth_says_nothing_new_of_a_session_that_has_ended() -> None:
    gone = on_farewell(ONLINE, "s1", stopped=True, now=700)
    assert on_birth(gone, "s1", INTERVAL, retained=True, now=900) == gone
    reborn = on_birth(ONLINE, "s2", INTERVAL, retained=False, now=500)
    unsure = on_link_lost(reborn, 600)
    assert on_birth(unsure, "s1", INTERVAL, retained=True, now=900) == unsure


def test_a_retained_birth_of_whatever_session_does_not_disturb_who_is_online() -> None:
    assert on_birth(ONLINE, "s0", INTERVAL, retained=True, now=500) == ONLINE


def test_a_session_that_began_and_ended_while_the_hub_was_away_is_over() -> None:
    unsure = on_link_lost(ONLINE, 600)
    gone = on_farewell(unsure, "s2", stopped=False, retained=True, now=900)
    assert (gone.state, gone.reason, gone.session) == (PresenceState.OFFLINE, Reason.CONNECTION_LOST, "s2")


def test_what_is_retained_of_an_older_session_does_not_end_this_one() -> None:
    reborn = on_birth(ONLINE, "s2", INTERVAL, retained=False, now=500)
    unsure = on_link_lost(reborn, 600)
    assert on_farewell(unsure, "s1", stopped=False, retained=True, now=900) == unsure
    assert on_farewell(reborn, "s0", stopped=False, retained=True, now=900) == reborn


@pytest.mark.parametrize(("late_ms", "frozen"), [(0, False), (2000, False), (2001, True), (60_000, True)])
def test_a_look_that_comes_far_too_late_finds_a_hub_that_stood_still(late_ms: int, frozen: bool) -> None:  # noqa: FBT001
    assert was_frozen(5000, 5000 + 1000 + late_ms, every_ms=1000) is frozen


def test_nobody_is_judged_for_the_time_in_which_the_hub_stood_still() -> None:
    thawed = on_frozen(ONLINE, 90_000)
    assert on_tick(thawed, after(SUSPECT_AFTER_INTERVALS, 90_000) - 2).state is PresenceState.ONLINE
    assert on_tick(thawed, after(SUSPECT_AFTER_INTERVALS, 90_000)).state is PresenceState.SUSPECT
    gone = on_farewell(ONLINE, "s1", stopped=True, now=700)
    assert on_frozen(gone, 90_000) == gone


def test_two_missed_heartbeats_make_it_suspect_and_four_offline() -> None:
    assert on_tick(ONLINE, after(SUSPECT_AFTER_INTERVALS) - 2) == ONLINE
    suspect = on_tick(ONLINE, after(SUSPECT_AFTER_INTERVALS))
    assert (suspect.state, suspect.reason) == (PresenceState.SUSPECT, Reason.HEARTBEAT_MISSED)
    assert on_tick(suspect, after(OFFLINE_AFTER_INTERVALS) - 2) == suspect
    gone = on_tick(suspect, after(OFFLINE_AFTER_INTERVALS))
    assert (gone.state, gone.reason) == (PresenceState.OFFLINE, Reason.HEARTBEAT_MISSED)


@pytest.mark.parametrize("silent", [SUSPECT_AFTER_INTERVALS, OFFLINE_AFTER_INTERVALS])
def test_a_heartbeat_brings_it_back_from_silence(silent: float) -> None:
    quiet = on_tick(ONLINE, after(silent))
    heard = on_heartbeat(quiet, "s1", retained=False, now=9000)
    assert (heard.state, heard.reason, heard.since_ms, heard.last_seen_ms) == (PresenceState.ONLINE, None, 9000, 9000)


def test_a_late_heartbeat_of_an_old_session_does_not_change_the_new_one() -> None:
    reborn = on_birth(ONLINE, "s2", INTERVAL, retained=False, now=500)
    assert on_heartbeat(reborn, "s1", retained=False, now=600) == reborn


def test_a_session_that_is_over_does_not_come_back() -> None:
    """A broker that was started with an old store repeats what it had queued, and that is not retained."""
    reborn = on_birth(ONLINE, "s2", INTERVAL, retained=False, now=500)
    stopped = on_farewell(reborn, "s2", stopped=True, now=700)
    for known, session in ((reborn, "s1"), (on_link_lost(reborn, 600), "s1"), (stopped, "s1"), (stopped, "s2")):
        assert is_over(known, session)
        assert on_birth(known, session, INTERVAL, retained=False, now=900) == known
        assert on_heartbeat(known, session, retained=False, now=900) == known
    assert on_birth(stopped, "s3", INTERVAL, retained=False, now=900).state is PresenceState.ONLINE


def test_a_session_that_was_lost_may_come_back() -> None:
    lost = on_farewell(ONLINE, "s1", stopped=False, now=700)
    assert not is_over(lost, "s1")
    assert on_heartbeat(lost, "s1", retained=False, now=900).state is PresenceState.ONLINE


def test_the_hubs_own_absence_holds_judgement() -> None:
    unsure = on_link_lost(ONLINE, 5000)
    assert (unsure.state, unsure.reason) == (PresenceState.SUSPECT, Reason.BROKER_RESTARTED)
    back = on_link_up(unsure, 60_000)
    assert on_tick(back, after(SUSPECT_AFTER_INTERVALS, 60_000) - 2).state is PresenceState.SUSPECT
    gone = on_tick(back, after(SUSPECT_AFTER_INTERVALS, 60_000))
    assert (gone.state, gone.reason) == (PresenceState.OFFLINE, Reason.HEARTBEAT_MISSED)


def test_a_heartbeat_after_the_hubs_absence_makes_it_online() -> None:
    back = on_link_up(on_link_lost(ONLINE, 5000), 6000)
    assert on_heartbeat(back, "s1", retained=False, now=6100).state is PresenceState.ONLINE


def test_the_hubs_absence_does_not_bring_back_who_was_gone() -> None:
    gone = on_farewell(ONLINE, "s1", stopped=True, now=700)
    assert on_link_up(on_link_lost(gone, 5000), 6000) == gone


def test_silence_does_not_end_who_is_gone_already() -> None:
    gone = on_farewell(ONLINE, "s1", stopped=True, now=700)
    assert on_tick(gone, 10**9) == gone


def test_a_link_that_comes_back_changes_nothing_for_who_is_online() -> None:
    assert on_link_up(ONLINE, 5000) == ONLINE


Step = Literal[
    "birth", "retained birth", "will", "retained will", "stop", "beat", "retained beat", "lost", "up", "tick", "frozen"
]
STEPS: dict[Step, Callable[[Presence, str, int], Presence]] = {
    "birth": lambda known, session, now: on_birth(known, session, INTERVAL, retained=False, now=now),
    "retained birth": lambda known, session, now: on_birth(known, session, INTERVAL, retained=True, now=now),
    "will": lambda known, session, now: on_farewell(known, session, stopped=False, now=now),
    "retained will": lambda known, session, now: on_farewell(known, session, stopped=False, retained=True, now=now),
    "frozen": lambda known, _, now: on_frozen(known, now),
    "stop": lambda known, session, now: on_farewell(known, session, stopped=True, now=now),
    "beat": lambda known, session, now: on_heartbeat(known, session, retained=False, now=now),
    "retained beat": lambda known, session, now: on_heartbeat(known, session, retained=True, now=now),
    "lost": lambda known, _, now: on_link_lost(known, now),
    "up": lambda known, _, now: on_link_up(known, now),
    "tick": lambda known, _, now: on_tick(known, now),
}
HISTORIES = st.lists(
    st.tuples(st.sampled_from(list(STEPS)), st.sampled_from(["s1", "s2", "s3"]), st.integers(0, 3000)), max_size=12
)


def live(history: list[tuple[Step, str, int]]) -> Presence:
    known, now = NEVER_SEEN, 0
    for step, session, elapsed in history:
        now += elapsed
        before, known = known, STEPS[step](known, session, now)
        assert known.since_ms == (before.since_ms if _said(before) == _said(known) else now)
        assert known.last_seen_ms >= before.last_seen_ms
    return known


def _said(known: Presence) -> tuple[PresenceState, Reason | None]:
    return known.state, known.reason


@given(HISTORIES)
def test_whoever_is_not_simply_online_has_a_reason(history: list[tuple[Step, str, int]]) -> None:
    known = live(history)
    if known.session is None:
        assert (known.state, known.reason) == (PresenceState.OFFLINE, None)
    else:
        assert (known.state is PresenceState.ONLINE) == (known.reason is None)


@given(HISTORIES, st.sampled_from(["will", "stop"]))
def test_nothing_leaves_a_worker_online_after_the_farewell_of_its_session(
    history: list[tuple[Step, str, int]], farewell: Literal["will", "stop"]
) -> None:
    known = live(history)
    gone = STEPS[farewell](known, known.session or "s1", 10**6)
    assert gone.state is PresenceState.OFFLINE
    for passive in ("lost", "up", "tick", "retained beat", "retained birth", "frozen"):
        gone = STEPS[passive](gone, gone.session or "s1", 10**7)
        assert gone.state is PresenceState.OFFLINE


@given(HISTORIES, st.sampled_from(["will", "stop"]))
def test_no_farewell_of_another_session_changes_anything(
    history: list[tuple[Step, str, int]], farewell: Literal["will", "stop"]
) -> None:
    known = replace(live(history), session="mine")  # a retained one is another matter
    assert STEPS[farewell](known, "another", 10**6) == known


@given(HISTORIES)
def test_silence_ends_in_offline_whatever_was_before(history: list[tuple[Step, str, int]]) -> None:
    assert on_tick(live(history), 10**9).state is PresenceState.OFFLINE


@given(HISTORIES)
def test_a_live_birth_always_ends_in_online(history: list[tuple[Step, str, int]]) -> None:
    born = on_birth(live(history), "s9", INTERVAL, retained=False, now=10**6)
    assert (born.state, born.reason, born.session) == (PresenceState.ONLINE, None, "s9")


def test_a_bridge_that_is_cut_takes_along_who_is_there_and_nobody_else() -> None:
    online = on_birth(Presence(), "s", 30_000, retained=False, now=0)
    cut = on_cut(online, now=5)
    assert (cut.state, cut.reason, cut.since_ms) == (PresenceState.OFFLINE, Reason.SITE_LINK_DOWN, 5)
    assert on_heartbeat(cut, "s", retained=False, now=9).state is PresenceState.ONLINE
    stopped = on_farewell(online, "s", stopped=True, now=3)
    assert on_cut(stopped, now=5) is stopped
