"""What a container's state says: whether it has begun, for how long it runs, and how its end is called."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

NEVER = "0001-01-01"
"""How the engine writes a time that has not been."""

SIGNAL_BASE = 128
SIGNALS = {1: "SIGHUP", 2: "SIGINT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
SIGNALS |= {13: "SIGPIPE", 15: "SIGTERM"}
"""Linux's numbers, which a container's are."""

KILLED = frozenset({SIGNAL_BASE + 9, SIGNAL_BASE + 15, 255})
"""Exit codes of a container that was ended and did not end: by SIGKILL, by SIGTERM, by a host that went down."""


@dataclass(frozen=True, slots=True)
class State:
    """A container as the engine shows it; `began_at` in milliseconds of the engine's clock."""

    id: str
    status: str
    exit_code: int
    oom_killed: bool
    error: str
    began_at: int | None

    @classmethod
    def read(cls, shown: Mapping[str, Any]) -> State:
        """Read what `GET /containers/{id}/json` answers."""
        state = shown["State"]
        return cls(
            id=shown["Id"],
            status=state["Status"],
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state.get("OOMKilled")),
            error=state.get("Error") or "",
            began_at=read_time(state.get("StartedAt") or NEVER),
        )

    @property
    def has_begun(self) -> bool:
        """Whether it was ever started."""
        return self.began_at is not None

    @property
    def has_ended(self) -> bool:
        """Whether it was started, and runs no more."""
        return self.has_begun and self.status in {"exited", "dead"}


@dataclass(frozen=True, slots=True)
class End:
    """How a container ended: as `succeeded`, `failed`, or `interrupted` by somebody else; `error` says why."""

    outcome: Literal["succeeded", "failed", "interrupted"]
    error: str = ""


def end_of(state: State, *, memory_mb: int | None, was_killed: bool, was_watched: bool) -> End:
    """Return how a container ended.

    Args:
        state: Its last state.
        memory_mb: The limit that it had.
        was_killed: Whether the engine was seen to kill it, and not at our word: it was shut down, or a person said so.
        was_watched: Whether we would have seen that.

    """
    if state.exit_code != 0 and state.oom_killed:
        limit = f": limit {memory_mb} MB" if memory_mb is not None else ""
        return End("failed", f"out of memory{limit}")
    if was_killed:  # even with exit code 0: many programs end in order when they are told to stop
        return End("interrupted", "the container was stopped by the engine or by somebody else")
    if not was_watched and state.exit_code in KILLED:
        return End("interrupted", f"the container was killed while nobody watched it ({why(state)})")
    return End("succeeded") if state.exit_code == 0 else End("failed", why(state))


def why(state: State) -> str:
    """Say what an exit code means."""
    name = SIGNALS.get(state.exit_code - SIGNAL_BASE)
    if name is not None:
        return f"exit code {state.exit_code} ({name})"
    return f"exit code {state.exit_code}" + (f": {state.error}" if state.error else "")


def read_time(text: str) -> int | None:
    """Read a time of the engine, in milliseconds; None if it has not been.

    >>> read_time("2026-11-25T21:57:11.549109810Z")
    1795643831549
    """
    if text.startswith(NEVER):
        return None
    whole, _, rest = text.rstrip("Z").partition(".")
    fraction = rest[:3].ljust(3, "0") if rest else "000"
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000 + int(fraction)
