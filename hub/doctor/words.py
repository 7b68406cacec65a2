"""How a doctor writes names, spans and versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_NAMED = 5


def named(names: Iterable[str]) -> str:
    """Name a few, and say how many more there are."""
    every = list(names)
    more = f" and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return ", ".join(every[:MOST_NAMED]) + more


def span(milliseconds: int) -> str:
    """Write how long something is: `3 min`."""
    seconds = milliseconds // 1000
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def version_key(version: str) -> tuple[int, ...]:
    """Return what versions are in order by."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
