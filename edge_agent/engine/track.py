"""What the engine's events say of a container."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

OBEYS_NS = 60 * 10**9
"""Who goes on for longer after a signal has ended by himself."""

HARMLESS_SIGNALS = frozenset({"0", "1", "10", "12", "18", "28"})
"""Those that programs are told things by: HUP, USR1, USR2, CONT and WINCH, in Linux's numbers."""


@dataclass(slots=True)
class Track:
    """What was seen of a container.

    Attributes:
        was_watched: Whether nothing can have been missed.
        killed_at: When the engine has last sent it a signal to end by, in nanoseconds of its clock,
        died_at: and when it has ended.
        died: Set when its end was seen, or would not be.

    """

    was_watched: bool = True
    killed_at: int | None = None
    died_at: int | None = None
    died: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def was_killed(self) -> bool:
        """Whether it has ended by a signal that the engine has sent, as far as one can tell."""
        if self.killed_at is None:
            return False
        return self.died_at is None or self.died_at - self.killed_at <= OBEYS_NS

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take an event of it: it was sent a signal, or has ended."""
        if event["Action"] == "die":
            self.died_at = event["timeNano"]
            self.died.set()
        elif event["Actor"]["Attributes"].get("signal") not in HARMLESS_SIGNALS:
            self.killed_at = event["timeNano"]
