"""The clock and the ids that both programs use; rules get their results as arguments."""

from __future__ import annotations

import time
import uuid


def now_ms() -> int:
    """Return Unix time in milliseconds, by this machine's clock."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """Return a random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex
