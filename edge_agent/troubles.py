"""What keeps the worker from its hub just now: told in the log, and kept for who asks how things stand.

A link that cannot be made is told of at each try, which are few. What is refused is told once, with what to do about
it, and again when the hour is over: until somebody does something it stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import Refused, Trouble
from broker.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.errors import LinkDown

TELL_AGAIN_SECONDS = 3600.0
STEADY_AFTER_SECONDS = 60.0
"""Who was online for so long had got what he asked for: a refusal after that is a new one."""

log = get_logger(__name__)


class Troubles:
    """The troubles of a worker's links.

    Args:
        clock: Seconds, monotonic.

    Attributes:
        last: What went wrong last; None since the worker was last online.

    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, tuple[str, float]] = {}
        self._online_since: float | None = None
        self.last: Trouble | None = None

    def on_down(self, event: str, down: LinkDown, wait_seconds: float) -> None:
        """Tell that a link went down, which the log calls `event`, and when it is tried again."""
        if self._online_since is not None and self._clock() - self._online_since >= STEADY_AFTER_SECONDS:
            self._told.clear()
        self._online_since = None
        self.last = Trouble(down.reason, down.remedy)  # not the error: its frames hold on to sockets
        told = {**down.told, "next_try_seconds": round(wait_seconds, 1)}
        if not isinstance(down, Refused):
            log.warning(event, **told)
        elif self._is_new(event, down):
            log.error(event, **told, hint="it is tried again, and not told again while it stays the same")
        else:
            log.debug(event, **told)

    def on_online(self) -> None:
        """Hear that the worker is online."""
        self.last = None
        self._online_since = self._clock()

    def _is_new(self, event: str, down: Refused) -> bool:
        reason, at = self._told.get(event, ("", 0.0))
        now = self._clock()
        if reason == down.reason and now - at < TELL_AGAIN_SECONDS:
            return False
        self._told[event] = down.reason, now
        return True
