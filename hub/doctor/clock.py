"""The doctor at this machine's clock, as far as there is something to compare it with."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from broker.doctor import Finding, bad, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

TOO_OLD_MS = 1_790_000_000_000
"""September 2026, before this was written: a clock that shows less has lost its time."""

AHEAD_MS = 60_000
_NTP = "keep it by NTP: timedatectl set-ntp true"


async def check_clock(now: int, newest: int | None) -> list[Finding]:
    """Judge the clock that shows `now` by the `newest` time that the database holds, and by what systemd knows."""
    findings = list(judge(now, newest))
    synchronised = await _is_synchronised()
    if synchronised is None:
        findings.append(ok("whether NTP keeps this machine's clock cannot be seen here; workers' clocks are below"))
    else:
        findings.append(ok("NTP keeps this machine's clock") if synchronised else warn("NTP does not keep it", _NTP))
    return findings


def judge(now: int, newest: int | None) -> Iterator[Finding]:
    """Find out whether time has gone back."""
    if now < TOO_OLD_MS:
        yield bad("this machine's clock shows a time before Holdfast was written", f"set it, and {_NTP}")
    elif newest is not None and newest > now + AHEAD_MS:
        minutes = (newest - now) // 60_000
        said = f"this machine's clock is at least {minutes} min behind what the hub has written already"
        yield bad(said, f"set it, and {_NTP}; if it was ahead before, times of then stay wrong")


async def _is_synchronised() -> bool | None:
    """Ask systemd; None where there is none, as in a container."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    process = await asyncio.create_subprocess_exec(
        program,
        *("show", "--property=NTPSynchronized", "--value"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    said, _ = await process.communicate()
    return {b"yes": True, b"no": False}.get(said.strip())
