"""When hello is said."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from edge_agent.rules import handshake as rules
from edge_agent.rules.handshake import HELLO_AGAIN_SECONDS, HELLO_SECONDS, MAX_HELLO_SECONDS, Handshake

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_hub_that_comes_hears_hello_at_once() -> None:
    assert rules.on_hub_online(Handshake(), "h", was_there=False, now=5).hello_at == 5


def test_a_hub_that_was_there_has_heard_our_birth_and_gets_time_to_answer() -> None:
    state = rules.on_hub_online(Handshake(), "h", was_there=True, now=5)
    assert state.hello_at == 5 + HELLO_SECONDS


def test_an_answer_that_was_faster_than_the_hubs_status_counts() -> None:
    state = rules.on_hub_online(rules.on_sync(Handshake(), now=4), "h", was_there=True, now=5)
    assert (state.synced, state.hello_at) == (True, 4 + HELLO_AGAIN_SECONDS)


def test_another_hub_must_answer_for_itself() -> None:
    state = rules.on_sync(rules.on_hub_online(Handshake(), "old", was_there=True, now=0), now=1)
    state = rules.on_hub_online(state, "new", was_there=False, now=9)
    assert (state.synced, state.hello_at) == (False, 9)


def test_hello_is_said_with_growing_patience_and_never_given_up() -> None:
    state, said = rules.on_hub_online(Handshake(), "h", was_there=False, now=0), []
    for _ in range(8):
        assert state.hello_at is not None
        said.append(state.hello_at)
        state = rules.on_hello(state, state.hello_at)
    waits = [later - earlier for earlier, later in pairwise(said)]
    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_a_late_will_of_an_old_hub_says_nothing_about_the_new_one() -> None:
    state = rules.on_sync(rules.on_hub_online(Handshake(), "new", was_there=True, now=0), now=1)
    assert rules.on_hub_offline(state, "old", now=2) is state
    assert not rules.on_hub_offline(state, "new", now=2).synced


def test_a_hub_whose_coming_was_not_heard_hears_hello_all_the_same() -> None:
    state = rules.on_sync(rules.on_hub_online(rules.begin(now=0), "old", was_there=True, now=0), now=1)
    state = rules.on_hub_offline(state, "old", now=5)
    assert state.hello_at == 5 + MAX_HELLO_SECONDS  # the broker may drop "a new hub is online" of a full queue
    state = rules.on_hello(state, now=65)
    assert state.hello_at == 65 + MAX_HELLO_SECONDS
    assert rules.on_sync(state, now=66).synced


def test_an_overwritten_birth_is_said_at_once() -> None:
    assert rules.on_overwritten(rules.begin(now=0), now=3).hello_at == 3


@pytest.mark.parametrize("tell", [rules.on_changed, rules.on_overwritten])
def test_the_answer_to_an_earlier_hello_is_none_to_what_is_new_since(
    tell: Callable[[Handshake, float], Handshake],
) -> None:
    state = rules.on_hub_online(rules.begin(now=0), "h", was_there=True, now=0)
    state = rules.on_hub_online(rules.on_hub_offline(tell(state, 3), "h", now=3), "next", was_there=True, now=4)
    state = rules.on_sync(state, now=4)
    assert (state.synced, state.hello_at) == (True, 3)
    state = rules.on_sync(rules.on_hello(state, now=5), now=6)
    assert state.hello_at == 6 + HELLO_AGAIN_SECONDS


def test_a_hub_that_has_answered_hears_hello_now_and_then() -> None:
    state = rules.on_sync(rules.on_hub_online(Handshake(), "h", was_there=True, now=0), now=1)
    assert state.hello_at == 1 + HELLO_AGAIN_SECONDS
    state = rules.on_hello(state, state.hello_at)
    assert (state.synced, state.hello_at) == (True, 1 + 2 * HELLO_AGAIN_SECONDS)


def test_a_hub_beyond_a_bridge_that_is_cut_is_away_whatever_stands_in_the_sites_broker() -> None:
    state = rules.on_sync(rules.on_hub_online(Handshake(), "h", was_there=True, now=0), now=1)
    cut = rules.on_cut(state, now=5)
    assert (cut.hub, cut.synced, cut.hello_at) == (None, False, 5 + MAX_HELLO_SECONDS)
    assert rules.on_hub_online(cut, "h", was_there=True, now=6).hub is None
    assert rules.on_cut(cut, now=9) is cut


@pytest.mark.parametrize("hub", ["h", "another, that came meanwhile"])
def test_the_hub_hears_hello_as_soon_as_the_bridge_is_there_again(hub: str) -> None:
    state = rules.on_sync(rules.on_hub_online(Handshake(), "h", was_there=True, now=0), now=1)
    state = rules.on_hub_online(rules.on_cut(state, now=5), hub, was_there=False, now=6)
    joined = rules.on_joined(state, now=50)
    assert (joined.hub, joined.synced, joined.hello_at, joined.cut) == (hub, False, 50, False)


def test_a_hub_that_went_while_the_bridge_was_cut_is_not_waited_for() -> None:
    state = rules.on_cut(rules.on_hub_online(Handshake(), "h", was_there=True, now=0), now=5)
    joined = rules.on_joined(rules.on_hub_offline(state, "h", now=6), now=50)
    assert (joined.hub, joined.cut) == (None, False)


def test_a_bridge_that_comes_without_having_said_that_it_went_is_news_but_not_if_it_is_retained() -> None:
    state = rules.on_sync(rules.on_hub_online(Handshake(), "h", was_there=True, now=0), now=1)
    assert rules.on_joined(state, now=9, retained=True) is state
    joined = rules.on_joined(state, now=9)
    assert (joined.hub, joined.synced, joined.hello_at) == ("h", False, 9)


def test_an_answer_shows_that_there_is_a_way_though_a_bridge_that_is_no_more_once_said_otherwise() -> None:
    cut = rules.on_hub_online(rules.on_cut(Handshake(), now=0), "old", was_there=True, now=0)
    heard = rules.on_sync(cut, now=1)
    assert (heard.cut, heard.hub, heard.synced) == (False, "old", True)
    gone = rules.on_hub_offline(heard, "old", now=5)
    assert (gone.hub, gone.synced) == (None, False)
    assert rules.on_hub_online(gone, "new", was_there=False, now=9).hello_at == 9
