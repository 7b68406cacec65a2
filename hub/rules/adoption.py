"""Who answers for a task on a tasks topic: a worker, the broker's queue for it, or the hub (DESIGN §3).

The hub sees what workers see. It adopts what no worker can have got, keeps an eye on what one should have got and
that has an id, and leaves the rest alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.topics import SiteTasks, WorkerTasks
from hub.rules.presence import PresenceState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.rules.presence import Presence


@dataclass(frozen=True, slots=True)
class Witness:
    """What the hub knows of a worker when a task passes by."""

    worker: str
    site: str
    presence: Presence
    session_expiry_ms: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """No worker has it: the hub keeps it until one can run it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One of these workers (each with its session) should accept it; if none does, the hub dispatches it."""

    candidates: dict[str, str]


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
        one.worker: one.presence.session or "" for one in witnesses if _may_have_it(one, address, away=away, now=now)
    }
    if not takers and (has_id or not away):
        return Adopt()
    return Watch(takers) if has_id else Leave()


def waits_for(offered_to: dict[str, str], synced_sessions: dict[str, str]) -> list[str]:
    """Return the workers that may still hold a task which they were offered.

    A worker has shown that it does not when it has begun a new session since, and that session has synced: the old
    intake died with the old session, and all that it took was reported.

    Args:
        offered_to: Each candidate's session when the task was published.
        synced_sessions: The last session of each worker that has synced, with its journal committed.

    """
    return [worker for worker, session in offered_to.items() if synced_sessions.get(worker, session) == session]


def _may_have_it(one: Witness, address: SiteTasks | WorkerTasks, *, away: bool, now: int) -> bool:
    if one.site != address.site:
        return False
    gone = one.presence.state is PresenceState.OFFLINE
    if isinstance(address, WorkerTasks):
        return one.worker == address.worker and not (gone and now - one.presence.since_ms > one.session_expiry_ms)
    return away or not gone
