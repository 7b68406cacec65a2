"""When the way to the hub changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from edge_agent.rules import transport as rules
from edge_agent.rules.transport import (
    GRACE_SECONDS,
    MAX_DOUBLINGS,
    STEADY_AFTER_SECONDS,
    Limits,
    Step,
    Transport,
    Way,
    begin,
    next_step,
)

LIMITS = Limits(patience_seconds=30, ask_seconds=5, try_seconds=30)


def asked(way: Way, now: float, *, answered: bool, jitter: float = 0) -> Way:
    return rules.on_hub_asked(way, now, LIMITS, answered=answered, jitter=jitter)


def tried(way: Way, now: float, *, reached: bool, jitter: float = 0) -> Way:
    return rules.on_mqtt_tried(way, now, LIMITS, reached=reached, jitter=jitter)


def by_http(now: float = 30) -> Way:
    """Return how it stands after MQTT was blocked from 0 on, and the hub answered."""
    return asked(begin(now=0), now, answered=True)


def test_mqtt_gets_time_before_the_hub_is_asked() -> None:
    assert next_step(begin(now=7), LIMITS) == (Step.ASK_HUB, 37)


def test_who_is_connected_by_mqtt_asks_nothing() -> None:
    assert next_step(rules.on_up(begin(now=0), now=1), LIMITS) is None


def test_attempts_that_fail_give_no_more_time() -> None:
    assert next_step(rules.on_down(begin(now=0), now=20), LIMITS) == (Step.ASK_HUB, 30)


def test_a_connection_that_does_not_hold_gives_no_more_time() -> None:
    way = rules.on_down(rules.on_up(begin(now=0), now=20), now=21)
    assert next_step(way, LIMITS) == (Step.ASK_HUB, 30)


def test_a_connection_that_held_begins_the_time_anew() -> None:
    way = rules.on_down(rules.on_up(begin(now=0), now=20), now=20 + STEADY_AFTER_SECONDS)
    assert next_step(way, LIMITS) == (Step.ASK_HUB, 55)


def test_a_hub_that_answers_is_the_way() -> None:
    assert by_http().transport == "http"


def test_a_hub_that_does_not_answer_is_asked_again() -> None:
    way = asked(begin(now=0), 31, answered=False)
    assert (way.transport, next_step(way, LIMITS)) == ("mqtt", (Step.ASK_HUB, 36))


def test_an_answer_that_comes_when_mqtt_is_back_changes_nothing() -> None:
    way = asked(rules.on_up(begin(now=0), now=31), 32, answered=True)
    assert (way.transport, way.up_since) == ("mqtt", 31)


@pytest.mark.parametrize(("jitter", "at"), [(0.0, 60), (0.5, 75), (1.0, 90)])
def test_from_http_mqtt_is_tried_now_and_then(jitter: float, at: float) -> None:
    way = rules.on_up(asked(begin(now=0), 30, answered=True, jitter=jitter), now=30)
    assert next_step(way, LIMITS) == (Step.TRY_MQTT, at)
    again = tried(way, at, reached=False, jitter=jitter)
    assert (again.transport, again.up_since) == ("http", 30)
    assert next_step(again, LIMITS) == (Step.TRY_MQTT, at + at - 30)


def test_a_broker_that_can_be_reached_is_the_way_and_gets_time_to_be() -> None:
    way = tried(rules.on_up(by_http(), now=30), 60, reached=True)
    assert (way.transport, way.up_since) == ("mqtt", None)
    assert next_step(way, LIMITS) == (Step.ASK_HUB, 60 + GRACE_SECONDS)
    assert next_step(rules.on_down(way, now=61), LIMITS) == (Step.ASK_HUB, 60 + GRACE_SECONDS)


def test_a_return_that_does_not_hold_ends_at_once_and_the_next_is_later() -> None:
    way = tried(rules.on_up(by_http(), now=30), 60, reached=True)
    way = rules.on_down(rules.on_up(way, now=61), now=62)
    assert next_step(way, LIMITS) == (Step.ASK_HUB, 62)
    way = asked(way, 62, answered=True)
    assert next_step(rules.on_up(way, now=62), LIMITS) == (Step.TRY_MQTT, 62 + 2 * 30)


def test_returns_that_never_hold_are_tried_ever_later_but_never_given_up() -> None:
    way, now, waits = by_http(), 30.0, []
    for _ in range(MAX_DOUBLINGS + 3):
        step, at = next_step(rules.on_up(way, now), LIMITS) or (None, 0)
        assert step is Step.TRY_MQTT
        waits.append(at - now)
        now = at
        way = rules.on_down(rules.on_up(tried(way, now, reached=True), now), now + 1)
        way = asked(way, now, answered=True)
    assert waits == [30, 60, 120, 240, 480, 480, 480]


def test_a_return_that_holds_forgets_those_that_did_not() -> None:
    way = tried(by_http(), 60, reached=True)
    way = rules.on_down(rules.on_up(way, now=61), now=61 + STEADY_AFTER_SECONDS)
    assert (way.returns, way.mqtt_lost_at) == (0, 66)


def test_http_that_holds_no_more_is_given_up_after_a_while() -> None:
    way = asked(begin(now=0), 30, answered=True, jitter=1)
    assert next_step(way, LIMITS) == (Step.GIVE_UP_HTTP, 60)
    up = rules.on_up(way, now=31)
    assert next_step(up, LIMITS) == (Step.TRY_MQTT, 90)
    assert next_step(rules.on_down(up, now=50), LIMITS) == (Step.GIVE_UP_HTTP, 80)
    assert next_step(rules.on_down(up, now=32), LIMITS) == (Step.GIVE_UP_HTTP, 60)


def test_where_neither_way_works_both_are_tried_in_turn() -> None:
    way = rules.on_http_given_up(by_http(), 60, LIMITS)
    assert (way.transport, next_step(way, LIMITS)) == ("mqtt", (Step.ASK_HUB, 65))
    assert asked(way, 65, answered=True).transport == "http"


# -- a link that comes and goes ----------------------------------------------------------------------------------------


@dataclass
class Site:
    """A site where MQTT, or HTTP, can be had at some times, and who lives there. It connects at once where it can."""

    mqtt: bool
    http: bool
    now: float = 0.0
    way: Way = field(default_factory=lambda: begin(now=0))
    changes: list[tuple[float, Transport]] = field(default_factory=list)

    def change(self, *, mqtt: bool, http: bool) -> None:
        self.mqtt, self.http = mqtt, http
        self._connect()

    def live(self, seconds: float) -> None:
        until = self.now + seconds
        while (step := next_step(self.way, LIMITS)) and step[1] <= until:
            self.now = max(self.now, step[1])
            before = self.way.transport
            self._take(step[0])
            if self.way.transport != before:
                self.changes.append((self.now, self.way.transport))
            self._connect()
        self.now = until

    def _take(self, step: Step) -> None:
        match step:
            case Step.ASK_HUB:
                self.way = asked(self.way, self.now, answered=self.http, jitter=0.5)
            case Step.TRY_MQTT:
                self.way = tried(self.way, self.now, reached=self.mqtt, jitter=0.5)
            case Step.GIVE_UP_HTTP:
                self.way = rules.on_http_given_up(self.way, self.now, LIMITS)

    def _connect(self) -> None:
        can = self.mqtt if self.way.transport == "mqtt" else self.http
        if can and self.way.up_since is None:
            self.way = rules.on_up(self.way, self.now)
        elif not can:
            self.way = rules.on_down(self.way, self.now)

    @property
    def is_connected(self) -> bool:
        return self.way.up_since is not None


histories = st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.1, 300)), max_size=12)


@given(histories)
def test_whatever_happened_a_way_that_works_is_found_and_kept(history: list[tuple[bool, bool, float]]) -> None:
    site = Site(mqtt=True, http=True)
    for mqtt, http, seconds in history:
        site.change(mqtt=mqtt, http=http)
        site.live(seconds)
    site.change(mqtt=False, http=True)
    site.live(60 + 2**MAX_DOUBLINGS * 60)
    assert (site.way.transport, site.is_connected) == ("http", True)
    site.change(mqtt=True, http=True)
    site.live(2**MAX_DOUBLINGS * 60)
    assert (site.way.transport, site.is_connected) == ("mqtt", True)
    site.changes.clear()
    site.live(3600)
    assert site.changes == []


def test_a_blocked_site_is_back_on_mqtt_within_a_minute() -> None:
    site = Site(mqtt=False, http=True)
    site.live(600)
    assert site.changes == [(30, "http")]
    site.change(mqtt=True, http=True)
    site.live(60)
    assert site.way.transport == "mqtt"
