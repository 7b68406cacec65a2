"""Whether a worker is there: a pure state machine over births, farewells, heartbeats and silence (DESIGN §6).

Every function takes what is known and what happened, and returns what is known now. Times are milliseconds by the
hub's clock. A `session` nonce ties a birth to its will, so a late will of an old connection changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

SUSPECT_AFTER_INTERVALS = 2.25
"""Two missed heartbeats, and a quarter of an interval for the way."""

OFFLINE_AFTER_INTERVALS = 4.25
DEFAULT_INTERVAL_MS = 30_000

FROZEN_MS = 2_000
"""A look at silence that comes so much too late finds a hub that stood still, not workers that were silent."""

MAX_ENDED = 8
"""Ended sessions that are remembered of a worker."""


class PresenceState(StrEnum):
    """What the hub believes of a worker."""

    ONLINE = "online"
    SUSPECT = "suspect"
    OFFLINE = "offline"


class Reason(StrEnum):
    """Why a worker is not simply online."""

    STOPPED = "stopped"
    CONNECTION_LOST = "connection_lost"
    HEARTBEAT_MISSED = "heartbeat_missed"
    SITE_LINK_DOWN = "site_link_down"
    BROKER_RESTARTED = "broker_restarted"
    STALE_RETAINED = "stale_retained"


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of one worker's presence.

    Attributes:
        since_ms: When the state or its reason last changed.
        last_seen_ms: When the worker itself was last heard, never by a retained message.
        waiting_since_ms: From when silence counts: the last word, or the moment when judgement was suspended.
        ended: Sessions that were followed by another, the latest last: what is retained of them is old.

    """

    state: PresenceState = PresenceState.OFFLINE
    reason: Reason | None = None
    since_ms: int = 0
    session: str | None = None
    last_seen_ms: int = 0
    waiting_since_ms: int = 0
    interval_ms: int = DEFAULT_INTERVAL_MS
    ended: tuple[str, ...] = ()


def on_birth(known: Presence, session: str, interval_ms: int, *, retained: bool, now: int) -> Presence:
    """A birth came. A retained one only says that the worker was there once: a heartbeat must stand behind it."""
    if is_over(known, session) or (retained and _is_old_news(known, session)):
        return known
    if retained:
        unconfirmed = replace(_begin(known, session), interval_ms=interval_ms, waiting_since_ms=now)
        return _become(unconfirmed, PresenceState.SUSPECT, Reason.STALE_RETAINED, now)
    born = replace(_begin(known, session), interval_ms=interval_ms, last_seen_ms=now, waiting_since_ms=now)
    return _become(born, PresenceState.ONLINE, None, now)


def is_over(known: Presence, session: str) -> bool:
    """Tell whether a session has ended for good: whatever comes of it comes late, or from a broker with an old store.

    One that was only lost may come back, if it was silent and not its connection dead.
    """
    has_stopped = session == known.session and known.reason is Reason.STOPPED
    return has_stopped or session in known.ended


def _is_old_news(known: Presence, session: str) -> bool:
    """Tell whether a retained birth of `session` says less than what is known."""
    return known.state is PresenceState.ONLINE or (known.state is PresenceState.OFFLINE and session == known.session)


def on_farewell(known: Presence, session: str, *, stopped: bool, retained: bool = False, now: int) -> Presence:
    """A farewell came, from the worker itself (`stopped`) or as its will.

    That of another session is too late, unless it is retained and its session was never heard of: then that session
    began and ended while the hub was away.
    """
    unheard = retained and known.state is not PresenceState.ONLINE and session not in known.ended
    if known.session not in (None, session) and not unheard:
        return known
    why = Reason.SITE_LINK_DOWN if known.reason is Reason.SITE_LINK_DOWN else Reason.CONNECTION_LOST
    reason = Reason.STOPPED if stopped else why
    return _become(_begin(known, session), PresenceState.OFFLINE, reason, now)


def on_heartbeat(known: Presence, session: str, *, retained: bool, now: int) -> Presence:
    """A heartbeat came; a live one proves that the worker is there, whatever was believed."""
    is_late = is_over(known, session) or (known.session not in (None, session) and known.state is PresenceState.ONLINE)
    if retained or is_late:
        return known
    heard = replace(_begin(known, session), last_seen_ms=now, waiting_since_ms=now)
    return _become(heard, PresenceState.ONLINE, None, now)


def on_link_lost(known: Presence, now: int) -> Presence:
    """The hub's own link went, or the hub was away: what it believes may be old, and it holds judgement."""
    if known.state is PresenceState.OFFLINE:
        return known
    return _become(known, PresenceState.SUSPECT, Reason.BROKER_RESTARTED, now)


def on_cut(known: Presence, now: int) -> Presence:
    """The bridge from the site's own broker went: whatever the worker does, nothing of it comes here."""
    if known.state is PresenceState.OFFLINE:
        return known
    return _become(known, PresenceState.OFFLINE, Reason.SITE_LINK_DOWN, now)


def on_link_up(known: Presence, now: int) -> Presence:
    """The hub's link is back: silence counts from now."""
    return replace(known, waiting_since_ms=now) if known.state is PresenceState.SUSPECT else known


def was_frozen(last_look_ms: int, now: int, every_ms: int) -> bool:
    """Tell whether the hub itself stood still since its last look at silence, which it takes `every_ms`."""
    return now - last_look_ms > every_ms + FROZEN_MS


def on_frozen(known: Presence, now: int) -> Presence:
    """The hub stood still and heard nobody: silence counts from now."""
    return known if known.state is PresenceState.OFFLINE else replace(known, waiting_since_ms=now)


def on_tick(known: Presence, now: int) -> Presence:
    """Time passed with the hub's link up: after two missed heartbeats suspect, after four offline."""
    if known.state is PresenceState.OFFLINE:
        return known
    silent_intervals = (now - known.waiting_since_ms) / known.interval_ms
    stale = known.reason if known.reason is Reason.STALE_RETAINED else Reason.HEARTBEAT_MISSED
    limit = (
        SUSPECT_AFTER_INTERVALS
        if known.reason in (Reason.STALE_RETAINED, Reason.BROKER_RESTARTED)
        else OFFLINE_AFTER_INTERVALS
    )
    if silent_intervals > limit:
        return _become(known, PresenceState.OFFLINE, stale, now)
    if silent_intervals > SUSPECT_AFTER_INTERVALS:
        return _become(known, PresenceState.SUSPECT, stale, now)
    return known


def _begin(known: Presence, session: str) -> Presence:
    if known.session in (None, session):
        return replace(known, session=session)
    ended = tuple(one for one in known.ended if one != session)
    return replace(known, session=session, ended=(*ended, known.session)[-MAX_ENDED:])


def _become(known: Presence, state: PresenceState, reason: Reason | None, now: int) -> Presence:
    if (known.state, known.reason) == (state, reason):
        return known
    return replace(known, state=state, reason=reason, since_ms=now)
