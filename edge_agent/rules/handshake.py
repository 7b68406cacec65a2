"""When a worker says hello (its birth), until the hub has answered with a sync (DESIGN §5).

The birth of a new connection is a hello already. It is said again when another hub comes online, when a late will has
overwritten it, and while an answer stays away: with growing patience, for ever. With no hub to be seen it is said once
a minute, since what tells of a hub can be lost like any message. A hub that has answered hears it now and then, since
each hello measures the clocks anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HELLO_SECONDS = 2.0
MAX_HELLO_SECONDS = 60.0
HELLO_AGAIN_SECONDS = 3600.0
"""How often the clocks are measured: in an hour, two of them part by less than a second (decision 7)."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """Where the greeting with the hub stands, on one connection.

    Attributes:
        hub: The session of the hub that is online, if one is.
        synced: Whether that hub has answered.
        hello_at: When to say hello, by the caller's clock; None is not at all.
        hellos: How often it was said in vain.
        is_news: Whether the hello that is due says what none before it has said. No answer stands for one to it.
        cut: Whether the site's own broker has lost its way to the hub's. What it says of hubs is old then: they count
            as away.
        beyond: While it is cut, the hub of which it says that it is online.

    """

    hub: str | None = None
    synced: bool = False
    hello_at: float | None = None
    hellos: int = 0
    is_news: bool = False
    cut: bool = False
    beyond: str | None = None


def begin(now: float) -> Handshake:
    """Begin a connection, whose birth has been said, with no hub to be seen."""
    return Handshake(hello_at=now + MAX_HELLO_SECONDS)


def on_hub_online(state: Handshake, session: str, *, was_there: bool, now: float) -> Handshake:
    """A hub is online. If it `was_there` before our birth, it has heard that; else it must hear one now."""
    if state.cut:
        return replace(state, beyond=session)
    if state.hub == session:
        return state
    if state.synced and was_there:
        return replace(state, hub=session)  # its answer was faster
    hello_at = _due(state, now + HELLO_SECONDS if was_there else now)
    return Handshake(hub=session, hello_at=hello_at, is_news=state.is_news)


def on_hub_offline(state: Handshake, session: str, now: float) -> Handshake:
    """The hub is gone. A late will of an earlier one says nothing about the one that is online."""
    if state.cut:
        return replace(state, beyond=None) if state.beyond == session else state
    if state.hub not in (session, None):
        return state
    alone = begin(now)
    return replace(alone, hello_at=_due(state, alone.hello_at), is_news=state.is_news)


def on_cut(state: Handshake, now: float) -> Handshake:
    """The site's broker has lost its way to the hub's: nobody beyond hears us, and what is said there is not heard."""
    if state.cut:
        return state
    alone = on_hub_offline(state, state.hub or "", now)
    return replace(alone, cut=True, beyond=state.hub)


def on_joined(state: Handshake, now: float, *, retained: bool = False) -> Handshake:
    """The way is there, and anew unless that is `retained`: what was said last went nowhere, so hello is due now.

    A bridge that found its link dead by its silence has not said so before (mosquitto 2.0.11).
    """
    if retained and not state.cut:
        return state
    cut = on_cut(state, now)
    joined = replace(cut, cut=False, beyond=None)
    return on_hub_online(joined, cut.beyond, was_there=False, now=now) if cut.beyond else joined


def on_sync(state: Handshake, now: float) -> Handshake:
    """The hub has answered: so there is a way to it, though a bridge may have said otherwise that is no more."""
    if state.cut:
        state = replace(state, cut=False, hub=state.beyond, beyond=None)
    return replace(state, synced=True, hello_at=_due(state, now + HELLO_AGAIN_SECONDS), hellos=0)


def on_overwritten(state: Handshake, now: float) -> Handshake:
    """Somebody else's farewell stands where our birth should."""
    return replace(state, hello_at=now, is_news=True)


def on_changed(state: Handshake, now: float) -> Handshake:
    """The worker can do other things now than its birth says."""
    return replace(state, hello_at=now, is_news=True)


def on_hello(state: Handshake, now: float) -> Handshake:
    """Hello was said; wait for the answer, if there is one to come."""
    state = replace(state, is_news=False)
    if state.synced:
        return replace(state, hello_at=now + HELLO_AGAIN_SECONDS)
    if state.hub is None:
        return replace(state, hello_at=now + MAX_HELLO_SECONDS)
    wait = min(MAX_HELLO_SECONDS, HELLO_SECONDS * 2.0 ** min(state.hellos, 10))
    return replace(state, hello_at=now + wait, hellos=state.hellos + 1)


def _due(state: Handshake, otherwise: float | None) -> float | None:
    """Return when hello is due: news waits for nothing."""
    return state.hello_at if state.is_news else otherwise
