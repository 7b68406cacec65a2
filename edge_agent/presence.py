"""What a worker says of itself: its birth, and how it fares."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil

from broker import __version__
from broker.clock import new_id, now_ms
from broker.messages import NO_REVISION, Birth, HeartbeatMessage, TaskRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from broker.messages import ClockSample
    from edge_agent.abilities import Abilities
    from edge_agent.rules.attempts import Ref
    from edge_agent.runner import Runner
    from edge_agent.store.database import Database
    from edge_agent.store.journal import Journal

MS_A_DAY = 24 * 3600 * 1000
MOST_NAMED = 2000
"""How many attempts a heartbeat names: 100 KB of them. A hello names all, however many they are."""


@dataclass(frozen=True, slots=True)
class Name:
    """Who this worker is, and where."""

    site: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What does not change while the agent runs."""

    slots: int
    concurrency: Mapping[str, int]
    heartbeat_interval_seconds: float
    session_expiry_seconds: int


class Presence:
    """Writes births and heartbeats.

    Args:
        profile: What this worker is.
        abilities: What it can do.
        database: Whether the disk takes anything.
        journal: What it has to report.
        runner: What it does.

    Attributes:
        schedules: Which set of the hub's schedules is on the disk.

    """

    def __init__(
        self, profile: Profile, abilities: Abilities, database: Database, journal: Journal, runner: Runner
    ) -> None:
        self.profile = profile
        self._abilities = abilities
        self._database = database
        self._journal = journal
        self._runner = runner
        self._disk = database.path.parent
        self.schedules: Callable[[], str] = lambda: NO_REVISION
        self.boot = new_id()
        self.began_at = now_ms()
        self._process = psutil.Process()
        self._today = 0
        self._written_before_today = 0
        psutil.cpu_percent()  # its first answer is about nothing

    def birth(self, session: str, *, intake: str, transport: Literal["mqtt", "http"]) -> Birth:
        """Return the birth certificate of a session, which is its hello as well.

        Args:
            session: The nonce of the connection.
            intake: The nonce of the site's intake: all that an earlier one took is committed.
            transport: How the worker is connected.

        """
        profile = self.profile
        return Birth(
            session=session,
            boot=self.boot,
            at=now_ms(),
            version=__version__,
            capabilities=dict(self._abilities.capabilities),
            slots=profile.slots,
            concurrency=dict(profile.concurrency),
            kinds=tuple(sorted(self._abilities.kinds)),
            heartbeat_interval_seconds=profile.heartbeat_interval_seconds,
            session_expiry_seconds=profile.session_expiry_seconds,
            journal=self._journal.position,
            held=_refs(self._runner.held),
            intake=intake,
            transport=transport,
            schedules=self.schedules(),
        )

    def is_of_another(self, birth: Birth) -> bool:
        """Tell whether `birth` is of another agent of the same name, and not of an earlier run of this one."""
        return birth.boot != self.boot and birth.at >= self.began_at

    def heartbeat(self, session: str, clock: ClockSample | None) -> HeartbeatMessage:
        """Return how the worker fares now; `clock` is the last exchange of its connection."""
        at, held = now_ms(), self._runner.held
        return HeartbeatMessage(
            session=session,
            at=at,
            running=_refs(self._runner.running),
            queued=self._runner.queued,
            journal=self._journal.depth,
            written_bytes_today=self._written_today(at),
            cpu_percent=psutil.cpu_percent(),
            memory_bytes=self._process.memory_info().rss,
            disk_free_bytes=psutil.disk_usage(str(self._disk)).free,
            held=_refs(held) if len(held) <= MOST_NAMED else None,
            position=self._journal.position,
            clock=clock,
            storage="full" if self._database.full else "ok",
        )

    def _written_today(self, at: int) -> int:
        """Return what this process has written since midnight UTC, or since it began."""
        written = 0
        with contextlib.suppress(AttributeError, psutil.Error, OSError):  # not every system counts
            written = self._process.io_counters().write_bytes
        if at // MS_A_DAY != self._today:
            self._written_before_today = written if self._today else 0
            self._today = at // MS_A_DAY
        return written - self._written_before_today


def _refs(refs: Iterable[Ref]) -> tuple[TaskRef, ...]:
    return tuple(TaskRef(task=ref.task, attempt=ref.attempt) for ref in refs)
