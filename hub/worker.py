"""One worker as the hub knows it, and what it says that it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hub.rules import clocks
from hub.rules.adoption import Witness
from hub.rules.offers import opening_of
from hub.rules.presence import Presence, PresenceState
from hub.store.workers import WorkerRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.messages import Birth, HeartbeatMessage, JournalPosition, TaskRef
    from hub.rules.clocks import Clocks
    from hub.rules.leases import Ref
    from hub.rules.placement import Place

DEFAULT_SESSION_EXPIRY_SECONDS = 3600


@dataclass(slots=True)
class Worker:
    """One worker as the hub knows it.

    Attributes:
        place: The worker as placement sees it.
        clocks: What is known of the clocks of its last boots.
        marks: How far its streams are committed, as far as this hub has heard since it began.
        unsynced: Its last hello, while not all of its journal, as it was then, is committed.
        synced: Its last hello of which all is.
        checking: How its journal stood when it said what it holds, while not all of that is committed.

    """

    id: str
    site: str
    place: Place
    presence: Presence = field(default_factory=Presence)
    birth: Birth | None = None
    heartbeat: HeartbeatMessage | None = None
    clocks: Clocks = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    unsynced: Birth | None = None
    synced: Birth | None = None
    checking: JournalPosition | None = None

    @property
    def row(self) -> WorkerRow:
        """What is kept of it."""
        return WorkerRow(self.id, self.site, self.presence, self.birth, self.heartbeat, self.clocks)

    @property
    def by_http(self) -> bool:
        """Whether it is connected by HTTP, and not by way of the broker."""
        return self.birth is not None and self.birth.transport == "http"

    @property
    def is_there(self) -> bool:
        """Whether it is not known to be gone."""
        return self.presence.state is not PresenceState.OFFLINE

    @property
    def witness(self) -> Witness:
        """The worker as adoption sees it."""
        birth = self.birth
        expiry_seconds = birth.session_expiry_seconds if birth else DEFAULT_SESSION_EXPIRY_SECONDS
        return Witness(
            self.id,
            self.site,
            self.presence,
            1000 * expiry_seconds,
            intake=opening_of(birth).intake if birth else "",
            stream=birth.journal.stream if birth else "",
            by_http=self.by_http,
        )

    def clock(self, now: int) -> tuple[int, int] | None:
        """Return what must be added to its clock, and the bound of the error, in milliseconds; None is not known."""
        return clocks.current(self.clocks, self.birth.boot if self.birth else None, now)

    def corrected(self, at_ms: int | None) -> int | None:
        """Return a time that it told, by the hub's clock; as it was told, where its clock is not known."""
        if at_ms is None:
            return None
        return clocks.correct(at_ms, self.clocks, self.birth.boot if self.birth else None)[0]

    def has_committed(self, journal: JournalPosition) -> bool:
        """Tell whether all of its journal, as it was then, is committed."""
        return self.marks.get(journal.stream, -1) >= journal.newest

    def refresh_place(self) -> None:
        """Let placement see the worker as it is now."""
        place, birth = self.place, self.birth
        place.site = self.site
        place.online = self.presence.state is PresenceState.ONLINE
        place.session = term_of(birth) if birth else ""
        if birth:
            place.slots, place.kinds, place.capabilities = birth.slots, frozenset(birth.kinds), birth.capabilities
        place.storage_full = self.heartbeat is not None and self.heartbeat.storage == "full"


def term_of(birth: Birth) -> str:
    """Return how long a worker is not offered again what it declined: after its next hello it may do other things."""
    return f"{birth.session} {birth.at}"


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker holds, each a task and an attempt, and how its journal stood then."""

    worker: str
    held: frozenset[Ref]
    journal: JournalPosition
    is_birth: bool = False

    @classmethod
    def of(cls, worker: str, held: Iterable[TaskRef], journal: JournalPosition, *, is_birth: bool = False) -> Hello:
        """Return what a worker said."""
        return cls(worker, frozenset((ref.task, ref.attempt) for ref in held), journal, is_birth)
