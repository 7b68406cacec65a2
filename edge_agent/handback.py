"""Gives attempts back to the hub, which places them elsewhere: each goes with its reason and its whole task."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import TaskDeclined
from edge_agent.errors import StorageError
from edge_agent.rules.admission import Take
from edge_agent.store import inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.rules.attempts import Held
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.journal import Journal

log = get_logger(__name__)


class Declined(NamedTuple):
    """An attempt, why it goes, and whether the hub may offer it here again at once."""

    held: Held
    why: str
    busy: bool = False


class HandBack:
    """Declines attempts that were accepted before.

    Args:
        database: Where they are let go,
        journal: in one transaction with their report.
        forget: Told of each that is let go.

    """

    def __init__(self, database: Database, journal: Journal, forget: Callable[[Held], None]) -> None:
        self._database = database
        self._journal = journal
        self._forget = forget

    async def decline(self, attempts: Sequence[Declined]) -> bool:
        """Let attempts go; tell whether the disk has taken it. Raises `StorageClosed`."""
        if not attempts:
            return True
        try:
            await self._database.commit(partial(self._write, attempts=attempts))
        except StorageError as error:
            log.warning("tasks_not_handed_back", count=len(attempts), reason=error.reason)
            if not error.retryable:
                raise
            return False
        for declined in attempts:
            self._forget(declined.held)
        log.info("tasks_handed_back", count=len(attempts), reason=attempts[0].why)
        return True

    def _write(self, transaction: Transaction, attempts: Sequence[Declined]) -> None:
        inbox.release(transaction, [declined.held.ref for declined in attempts])
        at = now_ms()
        events = [
            TaskDeclined(
                at=at,
                task=held.ref.task,
                attempt=held.ref.attempt,
                reason=why,
                busy=busy,
                injected=Take(held).injected,
            )
            for held, why, busy in attempts
        ]
        self._journal.append(transaction, events)
