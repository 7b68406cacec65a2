"""How much of the machine a process may use: the limits of its control groups (Linux, versions 1 and 2).

A process is in one group of each hierarchy, and what limits a group limits all below it. In a container the path that
is told may be the host's, of which there is no file here: then the limit is in the file of the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[str], str | None]
    """Gives the text of a file, by its path from the root; None if there is none."""

TOP = "sys/fs/cgroup"
NO_LIMIT_BYTES = 2**60
"""Version 1 has no word for no limit: it says a number that is larger than any machine's memory."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The tightest limits; None is none."""

    cpus: float | None = None
    memory_bytes: int | None = None


def limits(membership: str, read: Read) -> Limits:
    """Return the limits of a process, whose `/proc/…/cgroup` says `membership`."""
    cpus: list[float | None] = []
    memory: list[int | None] = []
    for controllers, path in _groups(membership):
        if not controllers:  # version 2: one hierarchy for all
            for folder in _upwards(TOP, path):
                cpus.append(_quota(*(read(f"{folder}/cpu.max") or "").split()[:2]))
                memory.append(_bytes(read(f"{folder}/memory.max")))
        if "cpu" in controllers:
            for folder in _upwards(_mounted(controllers, "cpu", read, "cpu.shares"), path):
                quota = (read(f"{folder}/cpu.cfs_{part}_us") or "" for part in ("quota", "period"))
                cpus.append(_quota(*quota))
        if "memory" in controllers:
            top = _mounted(controllers, "memory", read, "memory.limit_in_bytes")
            memory += [_bytes(read(f"{folder}/memory.limit_in_bytes")) for folder in _upwards(top, path)]
    return Limits(
        cpus=min((one for one in cpus if one), default=None),
        memory_bytes=min((one for one in memory if one), default=None),
    )


def _groups(membership: str) -> Iterator[tuple[list[str], str]]:
    """Yield the controllers of each hierarchy and the group in it: `3:cpu,cpuacct:/system.slice`."""
    for line in membership.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:  # noqa: PLR2004
            yield [name for name in parts[1].split(",") if name], parts[2]


def _mounted(controllers: list[str], name: str, read: Read, file: str) -> str:
    """Return where a hierarchy of version 1 is: under its own name, or under those of all its controllers."""
    alone = f"{TOP}/{name}"
    return alone if read(f"{alone}/{file}") is not None else f"{TOP}/{','.join(controllers)}"


def _upwards(top: str, path: str) -> Iterator[str]:
    """Yield the folder of a group, and of all that it is in."""
    steps = [step for step in path.split("/") if step]
    for depth in range(len(steps), -1, -1):
        yield "/".join([top, *steps[:depth]])


def _quota(quota: str = "", period: str = "") -> float | None:
    """Return how many processors may be used: so many microseconds of each period."""
    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max", or no file
        return None


def _bytes(text: str | None) -> int | None:
    try:
        size = int(text or "")
    except ValueError:  # "max", or no file
        return None
    return size if 0 < size < NO_LIMIT_BYTES else None
