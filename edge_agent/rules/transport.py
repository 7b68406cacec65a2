"""Which way to go: MQTT where it can be had, HTTP where it is blocked (decision 8).

MQTT counts as blocked when no connection has held for a while. From HTTP it is tried now and then; a return that does
not hold ends where it came from, and the next one is tried later. Where neither way works, both are tried in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

Transport = Literal["mqtt", "http"]
"""As a birth says it."""

STEADY_AFTER_SECONDS = 5.0
"""A connection that lived this long has held."""

GRACE_SECONDS = 15.0
"""What MQTT gets to connect in when it could be reached a moment ago."""

MAX_DOUBLINGS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient to be.

    Args:
        patience_seconds: How long a way may not hold before the other is taken.
        ask_seconds: How often the hub is asked then, until it answers.
        try_seconds: How often, from HTTP, MQTT is tried: after once to twice as long.

    """

    patience_seconds: float = 30.0
    ask_seconds: float = 5.0
    try_seconds: float = 30.0


class Step(StrEnum):
    """What is to be found out, or done."""

    ASK_HUB = "ask_hub"
    TRY_MQTT = "try_mqtt"
    GIVE_UP_HTTP = "give_up_http"


@dataclass(frozen=True, slots=True)
class Way:
    """The way in use. Times are by the caller's clock, in seconds.

    Attributes:
        transport: Which one it is.
        up_since: Since when it is connected; None while it is not.
        mqtt_lost_at: When MQTT last ceased to hold.
        http_lost_at: When HTTP did, or was taken.
        ask_at: When the hub is asked whether it answers by HTTP, at the earliest.
        try_at: When MQTT is tried, from HTTP.
        returns: How often in a row MQTT could be reached and did not hold.

    """

    transport: Transport = "mqtt"
    up_since: float | None = None
    mqtt_lost_at: float = 0.0
    http_lost_at: float = 0.0
    ask_at: float = 0.0
    try_at: float = 0.0
    returns: int = 0


def begin(now: float) -> Way:
    """Begin with MQTT."""
    return Way(mqtt_lost_at=now, ask_at=now)


def next_step(way: Way, limits: Limits) -> tuple[Step, float] | None:
    """Return what to do next if nothing happens before, and when; None is to wait."""
    if way.transport == "http":
        give_up_at = way.http_lost_at + limits.patience_seconds
        if way.up_since is None and give_up_at < way.try_at:
            return Step.GIVE_UP_HTTP, give_up_at
        return Step.TRY_MQTT, way.try_at
    if way.up_since is not None:
        return None
    return Step.ASK_HUB, max(way.mqtt_lost_at + limits.patience_seconds, way.ask_at)


def on_up(way: Way, now: float) -> Way:
    """It is connected."""
    return replace(way, up_since=now)


def on_down(way: Way, now: float) -> Way:
    """The connection is gone, or could not be made."""
    held = way.up_since is not None and now - way.up_since >= STEADY_AFTER_SECONDS
    down = replace(way, up_since=None)
    if way.transport == "http":
        return replace(down, http_lost_at=now) if held else down
    if held:
        return replace(down, mqtt_lost_at=now, returns=0)
    return down if way.up_since is None else replace(down, ask_at=now)


def on_hub_asked(way: Way, now: float, limits: Limits, *, answered: bool, jitter: float) -> Way:
    """The hub was asked: go by HTTP if it answers, unless MQTT has connected meanwhile."""
    if way.up_since is not None:
        return way
    if not answered:
        return replace(way, ask_at=now + limits.ask_seconds)
    return replace(way, transport="http", http_lost_at=now, try_at=_try_at(way, now, limits, jitter))


def on_mqtt_tried(way: Way, now: float, limits: Limits, *, reached: bool, jitter: float) -> Way:
    """MQTT was tried: go back if it can be reached."""
    if not reached:
        return replace(way, try_at=_try_at(way, now, limits, jitter))
    return replace(way, transport="mqtt", up_since=None, ask_at=now + GRACE_SECONDS, returns=way.returns + 1)


def on_http_given_up(way: Way, now: float, limits: Limits) -> Way:
    """HTTP does not hold either: try MQTT, and ask the hub again and again."""
    return replace(way, transport="mqtt", up_since=None, ask_at=now + limits.ask_seconds)


def _try_at(way: Way, now: float, limits: Limits, jitter: float) -> float:
    doubled = 2.0 ** min(way.returns, MAX_DOUBLINGS)
    return now + limits.try_seconds * doubled * (1.0 + jitter)
