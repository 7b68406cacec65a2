"""What a worker's times are by the hub's clock, and how far that can be trusted (DESIGN §6, decision 7).

A clock exchange is NTP's (RFC 5905, §8): t1 and t4 by the worker's clock, t2 and t3 by the hub's. The middle
of what fits is wrong by half the time on the way at most, however uneven the ways were. From there the two clocks drift
apart, so the bound grows with the distance from the sample. An offset belongs to a *boot*: one process, one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.messages.base import MAX_MILLISECONDS

if TYPE_CHECKING:
    from broker.messages import ClockSample

DRIFT_PPM = 200
"""How fast two clocks may part. RFC 5905 assumes 15 ppm for one; boards without a good crystal reach 100."""

ROUNDING_MS = 1
"""All four times are cut to whole milliseconds."""

MAX_BOOTS = 4
MAX_SAMPLES = 8
"""Of one boot: a worker takes one an hour. What it told before an absence is corrected by the last one before that."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The hub's clock is the worker's plus `offset_ms`, to within `error_ms`, when the worker's shows `at_ms`."""

    offset_ms: int
    error_ms: int
    at_ms: int

    def error_at(self, at_ms: int) -> int:
        """Return the bound at another time by the worker's clock."""
        return self.error_ms + -(-abs(at_ms - self.at_ms) * DRIFT_PPM // 1_000_000)


Clocks = Mapping[str, tuple[Estimate, ...]]
"""The samples of each boot, oldest first; the boots too."""


def sample(exchange: ClockSample) -> Estimate:
    """Return what one exchange says."""
    there = exchange.received_at - exchange.sent_at
    back = exchange.answered_at - exchange.heard_at
    # Sum and difference are both even or both odd: where the half of one is rounded down, the other's is up.
    return Estimate((there + back) // 2, max(0, -((back - there) // 2)) + ROUNDING_MS, exchange.heard_at)


def learn(clocks: Clocks, exchange: ClockSample) -> Clocks:
    """Return `clocks` with one more exchange; the same one again, or one that is no news, changes nothing."""
    new, known = sample(exchange), clocks.get(exchange.boot, ())
    if any(one.error_at(new.at_ms) <= new.error_ms for one in known):
        return clocks
    kept = [one for one in known if new.error_at(one.at_ms) > one.error_ms]
    others = {boot: samples for boot, samples in clocks.items() if boot != exchange.boot}
    while len(others) >= MAX_BOOTS:
        del others[next(iter(others))]
    return {**others, exchange.boot: (*kept, new)[-MAX_SAMPLES:]}


def correct(at_ms: int, clocks: Clocks, boot: str | None) -> tuple[int, int | None]:
    """Return a time that a worker told by the hub's clock, and its bound.

    The time is as it was told, and the bound None, where the boot never met the hub.
    """
    best = _best(clocks.get(boot, ()) if boot else (), at_ms)
    if best is None:
        return at_ms, None
    return min(max(0, at_ms + best.offset_ms), MAX_MILLISECONDS), best.error_at(at_ms)


def current(clocks: Clocks, boot: str | None, now: int) -> tuple[int, int] | None:
    """Return offset and bound of a boot's clock at `now`, which is by the hub's; None where nothing is known."""
    samples = clocks.get(boot, ()) if boot else ()
    best = min(samples, key=lambda one: one.error_at(now - one.offset_ms), default=None)
    return (best.offset_ms, best.error_at(now - best.offset_ms)) if best else None


def _best(samples: tuple[Estimate, ...], at_ms: int) -> Estimate | None:
    if len(samples) == 1:
        return samples[0]
    return min(samples, key=lambda one: one.error_at(at_ms), default=None)
