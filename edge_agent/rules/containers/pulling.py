"""How far the fetching of an image is, from what the engine tells: of each layer, again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERVAL_SECONDS = 1.0
"""How often it is told: progress is the first that a full journal drops, but it is written to a disk all the same."""

MB = 1_000_000
HERE = frozenset({"Download complete", "Pull complete", "Already exists"})


@dataclass(slots=True)
class Pulling:
    """The state of one pull."""

    _layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    _told_at: float = float("-inf")
    _told: str = ""

    def hear(self, told: Mapping[str, Any], now: float) -> tuple[float, str] | None:
        """Take what the engine tells; return what is worth telling on: the fraction, and in words. `now` in seconds."""
        layer, status = told.get("id"), told.get("status", "")
        detail = told.get("progressDetail") or {}
        if layer and status == "Downloading" and detail.get("total"):
            self._layers[layer] = int(detail.get("current", 0)), int(detail["total"])
        elif layer in self._layers and status in HERE:
            total = self._layers[layer][1]
            self._layers[layer] = total, total
        else:
            return None
        words = f"{self._done / MB:.1f} of {self._total / MB:.1f} MB"
        if words == self._told or (now < self._told_at + INTERVAL_SECONDS and self._done < self._total):
            return None
        self._told, self._told_at = words, now
        return self._done / self._total, words

    @property
    def _done(self) -> int:
        return sum(min(current, total) for current, total in self._layers.values())

    @property
    def _total(self) -> int:
        return sum(total for _, total in self._layers.values())
