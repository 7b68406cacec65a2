"""What a worker says of itself: its birth, and how it fares."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from broker import __version__
from broker.clock import new_id, now_ms
from broker.messages import Birth, HeartbeatMessage, TaskRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from broker.messages import Scalar
    from edge_agent.journal import Journal
    from edge_agent.rules.attempts import Ref
    from edge_agent.runner import Runner

MS_A_DAY = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What does not change while the agent runs."""

    capabilities: Mapping[str, Scalar]
    slots: int
    kinds: tuple[str, ...]
    heartbeat_interval_seconds: float
    session_expiry_seconds: int


class Presence:
    """Writes births and heartbeats.

    Args:
        profile: What this worker is.
        journal: What it has to report.
        runner: What it does.
        disk: The directory whose disk counts.

    """

    def __init__(self, profile: Profile, journal: Journal, runner: Runner, disk: Path) -> None:
        self.profile = profile
        self._journal = journal
        self._runner = runner
        self._disk = disk
        self.boot = new_id()
        self.began_at = now_ms()
        self._process = psutil.Process()
        self._today = 0
        self._written_before_today = 0
        psutil.cpu_percent()  # its first answer is about nothing

    def birth(self, session: str) -> Birth:
        """Return the birth certificate of a session, which is its hello as well."""
        profile = self.profile
        return Birth(
            session=session,
            boot=self.boot,
            at=now_ms(),
            version=__version__,
            capabilities=dict(profile.capabilities),
            slots=profile.slots,
            kinds=profile.kinds,
            heartbeat_interval_seconds=profile.heartbeat_interval_seconds,
            session_expiry_seconds=profile.session_expiry_seconds,
            journal=self._journal.position,
            held=_refs(self._runner.held),
        )

    def is_of_another(self, birth: Birth) -> bool:
        """Tell whether `birth` is of another agent of the same name, and not of an earlier run of this one."""
        return birth.boot != self.boot and birth.at >= self.began_at

    def heartbeat(self, session: str) -> HeartbeatMessage:
        """Return how the worker fares now."""
        at = now_ms()
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
