"""What happened, told so that a person can follow it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.model.broker import Letter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.model.world import World

BEGAN_MS = 1_000_000
"""What the clock shows when a world begins."""

_NOISE = frozenset(
    {
        *("at", "version", "slots", "kinds", "capabilities", "boot", "type", "transport", "storage", "clock", "error"),
        *("heartbeat_interval_seconds", "session_expiry_seconds", "written_bytes_today", "cpu_percent"),
        *("memory_bytes", "disk_free_bytes", "queued", "running"),
    }
)


class Story:
    """Lines with their times. They are put into words only if somebody wants to read them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lines: list[tuple[int, str, tuple[object, ...]]] = []

    def tell(self, text: str, *values: object) -> None:
        self._lines.append((self._world.now, text, values))

    def __str__(self) -> str:
        return "\n".join(
            f"{(now - BEGAN_MS) / 1000:9.3f}  {text % tuple(map(_said, values))}" for now, text, values in self._lines
        )


def _said(value: object) -> object:
    if not isinstance(value, Letter):
        return value
    body = json.loads(value.body)
    said = " ".join(map(_short, body if isinstance(body, list) else [body]))
    return f"{'retained ' if value.retained else ''}{type(value.address).__name__.lower()} {said}"


def _short(body: Mapping[str, object]) -> str:
    """Say the body of a message in the words that matter."""
    told = {name: _plain(value) for name, value in body.items() if name not in _NOISE and value not in ([], {}, "")}
    return " ".join([str(body.get("type", "")), *(f"{name}={value}" for name, value in told.items())]).strip()


def _plain(value: object) -> object:
    match value:
        case {"task": task, "attempt": attempt, **more} if not more:
            return f"{task}/{attempt}"
        case {}:
            return "{" + _short(value) + "}"
        case list():
            return "[" + ", ".join(str(_plain(one)) for one in value) + "]"
    return value
