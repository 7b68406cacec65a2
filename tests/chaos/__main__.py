"""`make chaos`: breaks everything while work goes on, then checks. CHAOS_SECONDS, CHAOS_SEED and CHAOS_RATE say how."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys

from tests.chaos.report import LiveLine
from tests.chaos.run import TASKS_A_SECOND, run


def main() -> int:
    """Run, print what came of it, and return the exit code."""
    seed = int(os.environ.get("CHAOS_SEED") or random.randint(1, 999_999))  # noqa: S311  any will do
    seconds = float(os.environ.get("CHAOS_SECONDS") or 60)
    rate = float(os.environ.get("CHAOS_RATE") or TASKS_A_SECOND)
    print(f"chaos: {seconds:g} s, {rate:g} tasks a second, CHAOS_SEED={seed}", flush=True)  # noqa: T201
    logging.getLogger("mqtt").setLevel(logging.ERROR)  # publications wait for a broker that is down: no news here
    line = LiveLine()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything that was started ends with us
    result = asyncio.run(run(seed, seconds, rate=rate, show=line.show))
    line.close()
    if result.violations:
        print(result.histories, end="\n\n")  # noqa: T201
    print(result.summary)  # noqa: T201
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
