"""Who answers for a task on a tasks topic: a worker, the broker's queue for it, or the hub (DESIGN §3).

The hub sees what workers see. It adopts what no worker can have got, keeps an eye on what one should have got and
that has an id, and leaves the rest alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.topics import SiteTasks, WorkerTasks
from hub.rules.presence import PresenceState, Reason
from hub.rules.task import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.rules.presence import Presence


HANDED_OUT_MS = 45_000
"""For how long after its last word to us the broker may take a worker for alive: 1.5 keepalives of 20 s (MQTT
5, §3.1.2.10), and as much again as the last of them may have come behind that word."""

_SILENT = frozenset({Reason.HEARTBEAT_MISSED, Reason.SITE_LINK_DOWN})


@dataclass(frozen=True, slots=True)
class Witness:
    """What the hub knows of a worker when a task passes by.

    Attributes:
        intake: The nonce of its intake.
        stream: Its journal.
        by_http: Whether it is connected by HTTP: it is no member of its site's shared subscription then, and its own
            topic waits for it at the broker.

    """

    worker: str
    site: str
    presence: Presence
    session_expiry_ms: int
    intake: str = ""
    stream: str = ""
    by_http: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """No worker has it: the hub keeps it until one can run it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One of these workers should accept it; if none does, the hub dispatches it (`hub.rules.offers`)."""

    candidates: dict[str, Candidate]


@dataclass(frozen=True, slots=True)
class Leave:
    """A worker or the broker answers for it, by MQTT's own guarantee."""


Answer = Adopt | Watch | Leave


def who_answers(
    address: SiteTasks | WorkerTasks, witnesses: Iterable[Witness], *, has_id: bool, away: bool, now: int
) -> Answer:
    """Decide who answers for one task.

    Args:
        address: Where it was published.
        witnesses: The workers that the hub knows of.
        has_id: Whether who published it asked for more than MQTT's own guarantee.
        away: Whether it was published while the hub was away, so that who was online then is not known.
        now: Milliseconds.

    """
    takers = {
        one.worker: Candidate("" if away else one.intake, one.stream)
        for one in witnesses
        if _may_have_it(one, address, has_id=has_id, away=away, now=now)
    }
    if not takers and (has_id or not away):
        return Adopt()
    return Watch(takers) if has_id else Leave()


def _may_have_it(one: Witness, address: SiteTasks | WorkerTasks, *, has_id: bool, away: bool, now: int) -> bool:
    if one.site != address.site:
        return False
    gone = one.presence.state is PresenceState.OFFLINE
    if isinstance(address, WorkerTasks):
        return one.worker == address.worker and not (gone and now - one.presence.since_ms > one.session_expiry_ms)
    if has_id and gone:
        gone = not _is_silent(one.presence, now)
    return away or not (gone or one.by_http)


def _is_silent(known: Presence, now: int) -> bool:
    """Tell whether a worker is offline for its silence alone: the broker may hand it tasks that it reads much later."""
    return known.reason in _SILENT and now - known.last_seen_ms <= HANDED_OUT_MS
