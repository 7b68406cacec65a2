"""The clock and the ids that both programs use; rules get their results as arguments."""

from __future__ import annotations

import time
import uuid

NS_A_MS = 1_000_000

# Suspended machines have a clock that counts on in their sleep, where the system has one.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BEGAN_NS = time.time_ns() - time.clock_gettime_ns(_STEADY)


def now_ms() -> int:
    """Return Unix time in milliseconds: the system's when this process began, and steady from there.

    It does not follow when somebody sets the system's clock: what a process says keeps its order and its distances, and
    between two machines a single offset, which hello and sync measure.
    """
    return (_BEGAN_NS + time.clock_gettime_ns(_STEADY)) // NS_A_MS


def wall_ms() -> int:
    """Return Unix time in milliseconds by the system's clock, which can be set: only calendars go by it."""
    return time.time_ns() // NS_A_MS


def new_id() -> str:
    """Return a random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex
