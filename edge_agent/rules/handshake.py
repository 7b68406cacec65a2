"""When a worker says hello (its birth), until the hub has answered with a sync (DESIGN §5).

The birth of a new connection is a hello already. It is said again when another hub comes online, when a late will has
overwritten it, and while an answer stays away: with growing patience, for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HELLO_SECONDS = 2.0
MAX_HELLO_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Handshake:
    """Where the greeting with the hub stands, on one connection.

    Attributes:
        hub: The session of the hub that is online, if one is.
        synced: Whether that hub has answered.
        hello_at: When to say hello, by the caller's clock; None is not at all.
        hellos: How often it was said in vain.

    """

    hub: str | None = None
    synced: bool = False
    hello_at: float | None = None
    hellos: int = 0


def on_hub_online(state: Handshake, session: str, *, was_there: bool, now: float) -> Handshake:
    """A hub is online. If it `was_there` before our birth, it has heard that; else it must hear one now."""
    if state.hub == session:
        return state
    synced = state.synced and was_there
    hello_at = None if synced else now + HELLO_SECONDS if was_there else now
    return Handshake(hub=session, synced=synced, hello_at=hello_at)


def on_hub_offline(state: Handshake, session: str) -> Handshake:
    """The hub is gone. A late will of an earlier one says nothing about the one that is online."""
    return Handshake() if state.hub in (session, None) else state


def on_sync(state: Handshake) -> Handshake:
    """The hub has answered."""
    return replace(state, synced=True, hello_at=None, hellos=0)


def on_overwritten(state: Handshake, now: float) -> Handshake:
    """Somebody else's farewell stands where our birth should."""
    return replace(state, hello_at=now)


def on_hello(state: Handshake, now: float) -> Handshake:
    """Hello was said; wait for the answer, if there is one to come."""
    if state.hub is None or state.synced:
        return replace(state, hello_at=None)
    wait = min(MAX_HELLO_SECONDS, HELLO_SECONDS * 2.0 ** min(state.hellos, 10))
    return replace(state, hello_at=now + wait, hellos=state.hellos + 1)
