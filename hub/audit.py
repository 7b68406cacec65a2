"""The audit trail of a hub that runs: lines that stand for themselves, and refusals, which may come by the thousand."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.log import get_logger
from hub.errors import LedgerClosed
from hub.rules.audit import Entry
from hub.rules.refusals import WINDOW_MS, Refusals
from hub.store.audit import write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from hub.rules.audit import Outcome
    from hub.store.ledger import Ledger

log = get_logger(__name__)


class Audit:
    """Keeps who did what.

    What changes the database writes its line itself, in the same piece of work: `hub.store.audit.write`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._refusals = Refusals()
        self._writing: set[asyncio.Future[None]] = set()

    async def note(
        self,
        who: str,
        action: str,
        target: str | None,
        outcome: Outcome,
        *,
        role: str | None = None,
        address: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Write one line; return after the commit.

        Raises:
            LedgerClosed: If the hub stops.

        """
        await self._ledger.commit(partial(_write, entries=[Entry(who, action, target, outcome, role, address, detail)]))

    def refused(self, refusal: Entry) -> None:
        """Have a refusal written soon: nobody waits for the disk to hear that they were refused.

        Of equal ones within a minute there is one line, and at its end another that says how many more there were.
        """
        self._write(self._refusals.count(refusal.bounded(), now_ms()))

    async def run(self) -> None:
        """Write what was counted, once its minute is over, and at the end."""
        try:
            while True:
                await asyncio.sleep(WINDOW_MS / 1000)
                self._write(self._refusals.due(now_ms()))
        finally:
            self._write(self._refusals.close())

    def _write(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            written = self._ledger.submit(partial(_write, entries=entries))
        except LedgerClosed:
            log.warning("refusals_not_kept", refusals=[str(entry) for entry in entries])
            return
        self._writing.add(written)
        written.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[None]) -> None:
        self._writing.discard(future)
        if not future.cancelled() and (error := future.exception()):
            log.error("refusals_not_kept", error=str(error))


def _write(connection: Connection, entries: Sequence[Entry]) -> None:
    write(connection, *entries)
