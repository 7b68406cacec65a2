"""What a program tells systemd, which it does only where systemd has asked: `Type=notify` with a watchdog.

The protocol is sd_notify(3): a datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. It is small, so
no library is needed. Nothing here ever ends the program: a socket that cannot be reached is logged once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from typing import TYPE_CHECKING

from broker.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

PINGS_AN_INTERVAL = 3
"""Two may come late on a busy machine, and the program still lives."""

BEAT_SECONDS = 10.0
"""How often a stop that takes long is told to go on, where there is no watchdog whose interval would say it."""

STUCK_SECONDS = 120.0
"""How long one piece of work of a database's thread may take: as long as Linux lets a disk hang before it complains
(kernel.hung_task_timeout_secs). A card that is slow or busy needs less. A thread that needs more has died, or waits for
what never comes, and only a restart mends that. A full or failing disk answers, with an error: a restart would mend
nothing, so that is no reason for one."""

STOP_SECONDS = 120.0
"""How long a stop may take beside what running tasks are given: closing the intake, flushing, a last commit on a slow
card. Who needs more waits for what never comes, such as a process that hangs in the kernel, and holds up a reboot."""

MICROSECONDS = 1_000_000
SEND_SECONDS = 1.0

log = get_logger(__name__)


class Service:
    """The program as systemd sees it. Without `address` every call does nothing.

    Args:
        address: The path of a socket, or `@` and the name of an abstract one.
        watchdog_seconds: How long systemd waits for a sign of life; None where it does not watch.

    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = address
        self._beat_seconds = (watchdog_seconds or BEAT_SECONDS * PINGS_AN_INTERVAL) / PINGS_AN_INTERVAL
        self._stop_by: float | None = None
        self._failed = False
        self._told = ""
        self._silent = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, pid: int | None = None) -> Service:
        """Return what systemd asks of the process `pid`, by default of this one."""
        return cls(environment.get("NOTIFY_SOCKET") or None, watchdog_seconds(environment, pid or os.getpid()))

    @property
    def is_asked_for(self) -> bool:
        """Whether systemd wants to be told anything."""
        return self._address is not None

    def ready(self) -> None:
        """Say that the program does its work: what was started after it may start."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`; the same again is not sent."""
        if text != self._told:
            self._told = text
            self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self, within_seconds: float = STOP_SECONDS) -> None:
        """Say that it ends, and for so long, while `alive` runs, that this is to be waited for."""
        self._stop_by = time.monotonic() + within_seconds
        self._send("STOPPING=1", self._extension())

    @contextlib.asynccontextmanager
    async def alive(self, stuck_seconds: Callable[[], float]) -> AsyncIterator[None]:
        """Show signs of life inside the block, for as long as the event loop turns.

        Args:
            stuck_seconds: Returns for how long the database's thread has been at one piece of work; infinity, if it
                has died. Above `STUCK_SECONDS` there is no sign of life, and systemd restarts the program.

        """
        if self._address is None:
            yield
            return
        beating = asyncio.create_task(self._beat(stuck_seconds), name="watchdog")
        try:
            yield
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self, stuck_seconds: Callable[[], float]) -> None:
        while True:
            stuck = stuck_seconds()
            if stuck <= STUCK_SECONDS:
                self._show_life()
            elif not self._silent:
                reason = "has died" if math.isinf(stuck) else f"has been at one piece of work for {stuck:.0f} s"
                log.error("no_sign_of_life", reason=f"the database's thread {reason}")
            self._silent = stuck > STUCK_SECONDS
            await asyncio.sleep(self._beat_seconds)

    def _show_life(self) -> None:
        if self._stop_by is None:
            self._send("WATCHDOG=1")
        elif time.monotonic() <= self._stop_by:
            self._send(self._extension())

    def _extension(self) -> str:
        """Ask for time until the next beats: draining has limits of its own, and who hangs is not waited for."""
        return f"EXTEND_TIMEOUT_USEC={round(self._beat_seconds * PINGS_AN_INTERVAL * MICROSECONDS)}"

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            send(self._address, "\n".join(lines))
        except OSError as error:
            if not self._failed:
                log.warning("systemd_not_told", socket=self._address, message=lines[0], reason=str(error))
            self._failed = True
        else:
            self._failed = False


def send(address: str, message: str) -> None:
    """Send one message to the socket `address`. Raises `OSError`."""
    if address[:1] not in {"/", "@"}:
        raise OSError(f"NOTIFY_SOCKET is '{address}': expected a path, or @ and a name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        line.settimeout(SEND_SECONDS)  # a systemd that hangs must not hold up the event loop for long
        line.connect("\0" + address[1:] if address.startswith("@") else address)
        line.sendall(message.encode())


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """Return within how many seconds systemd wants to hear from the process `pid`; None if it does not watch it."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None  # it is meant for another: who started us, say
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or int(text) == 0:
        if text:
            log.warning("no_watchdog", reason=f"WATCHDOG_USEC is '{text}': expected microseconds, from 1")
        return None
    return int(text) / MICROSECONDS
