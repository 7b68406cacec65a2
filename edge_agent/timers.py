"""Fires `@agent.every` handlers: each firing is a task like any other, which waits, runs and is reported."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.framework import Timer
    from edge_agent.intake import Intake
    from edge_agent.runner import Runner

log = get_logger(__name__)


class Timers:
    """The clockwork behind `@agent.every`."""

    def __init__(self, timers: Iterable[Timer], intake: Intake, runner: Runner) -> None:
        self._timers = tuple(timers)
        self._intake = intake
        self._runner = runner
        self._last: dict[str, str] = {}

    async def run(self) -> None:
        """Fire, until cancelled."""
        if not self._timers:
            return
        from apscheduler.schedulers.asyncio import AsyncIOScheduler  # noqa: PLC0415  only where it is used

        scheduler = AsyncIOScheduler(timezone="UTC")
        for timer in self._timers:
            scheduler.add_job(
                self._fire, "interval", [timer.kind], seconds=timer.seconds, name=timer.kind, coalesce=True
            )
        scheduler.start()
        try:
            await asyncio.Event().wait()
        finally:
            scheduler.shutdown(wait=False)

    async def _fire(self, kind: str) -> None:
        last = self._last.get(kind)
        if last is not None and self._runner.holds(last):
            log.warning("timer_skipped", kind=kind, reason="its last run has not ended")
            return
        self._last[kind] = await self._intake.fire(kind)
