"""Whether workers are gone, or the link of their site is (DESIGN §6)."""

from __future__ import annotations

from hub.rules.presence import Presence, PresenceState, Reason, on_farewell
from hub.rules.sites import WINDOW_MS, shown_anew

THERE = Presence(PresenceState.ONLINE, None, 0, "s")


def lost(at: int, reason: Reason = Reason.CONNECTION_LOST) -> Presence:
    return Presence(PresenceState.OFFLINE, reason, at, "s")


def reasons(site: dict[str, Presence]) -> dict[str, Reason | None]:
    anew = shown_anew(site)
    for name, one in anew.items():
        assert (one.state, one.since_ms) == (site[name].state, site[name].since_ms)
    return {name: one.reason for name, one in anew.items()}


def test_all_of_a_site_lost_together_is_its_link() -> None:
    site = {"w1": lost(1000), "w2": lost(4000, Reason.HEARTBEAT_MISSED)}
    assert reasons(site) == {"w1": Reason.SITE_LINK_DOWN, "w2": Reason.SITE_LINK_DOWN}


def test_one_alone_is_lost_alone() -> None:
    assert reasons({"w1": lost(1000)}) == {}


def test_as_long_as_one_is_there_it_is_not_the_link() -> None:
    assert reasons({"w1": lost(1000), "w2": lost(1001), "w3": THERE}) == {}


def test_who_was_gone_before_does_not_count() -> None:
    stopped = lost(5000, Reason.STOPPED)
    assert reasons({"w1": lost(0), "w2": lost(WINDOW_MS + 1), "w3": stopped}) == {}
    site = {"w1": lost(0), "w2": lost(WINDOW_MS + 1), "w3": lost(WINDOW_MS + 2)}
    assert reasons(site) == {"w2": Reason.SITE_LINK_DOWN, "w3": Reason.SITE_LINK_DOWN}


def test_when_one_is_back_the_others_are_lost_by_themselves() -> None:
    site = {"w1": THERE, "w2": lost(1000, Reason.SITE_LINK_DOWN), "w3": lost(2000, Reason.STOPPED)}
    assert reasons(site) == {"w2": Reason.CONNECTION_LOST}


def test_a_late_will_does_not_hide_that_it_was_the_link() -> None:
    down = lost(1000, Reason.SITE_LINK_DOWN)
    assert on_farewell(down, "s", stopped=False, now=2000) == down
