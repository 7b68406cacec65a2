"""How long to wait before the next try: exponential, with full jitter, and never given up.

Full jitter is the variant that spreads a crowd best: "Exponential Backoff And Jitter", M. Brooker, AWS, 2015.
"""

from __future__ import annotations

BASE_SECONDS = 0.25
CAP_SECONDS = 15.0


def delay_seconds(failures: int, jitter: float, *, base: float = BASE_SECONDS, cap: float = CAP_SECONDS) -> float:
    """Return the seconds to wait after `failures` (from 1) tries in a row; `jitter` is random in [0, 1).

    At least a quarter of the full delay is kept, so that a refused connection is not tried in a tight loop.
    """
    full = min(cap, base * 2.0 ** min(failures - 1, 30))
    return full * (0.25 + 0.75 * jitter)
