"""Carries decisions about tasks into the database, and what they changed to the rest of the hub.

The database is the truth: each decision is checked against it in the transaction that carries it out. One that it does
not take, because its disk is full, say, is as if it had never been made: the tasks wait again where they did.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from broker.clock import now_ms
from broker.log import get_logger
from hub.store.cases import load as load_cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from hub.feed import Feed
    from hub.rules.waiting import Waiting
    from hub.store.cases import Change
    from hub.store.ledger import Ledger

RETRY_SECONDS = 2.0
"""How long is waited when the database does not take what was decided."""

Found = TypeVar("Found")

log = get_logger(__name__)


class Decisions:
    """Commits what was decided.

    Args:
        ledger: The one writer.
        feed: Tells of what changed.
        waiting: Where tasks are put again whose decision failed.
        on_failure: Called when they are.

    """

    def __init__(self, ledger: Ledger, feed: Feed, waiting: Waiting, on_failure: Callable[[], None]) -> None:
        self._ledger = ledger
        self._feed = feed
        self._waiting = waiting
        self._on_failure = on_failure

    async def carry_out(
        self, work: Callable[[Connection], tuple[list[Change], Found]], tasks: list[str]
    ) -> Found | None:
        """Commit a decision about `tasks`, and return what else it came to; None where it failed."""
        try:
            changes, found = await self._ledger.commit(work)
        except SQLAlchemyError as error:
            _complain("decision_not_committed", error)
            await self._put_again(tasks)
            return None
        self._feed.publish(changes)
        return found

    async def look_up(self, read: Callable[[Connection], Found]) -> Found:
        """Read, however long the database fails: a read shares the commit, and so the fate, of the writes beside it."""
        while True:
            try:
                return await self._ledger.commit(read)
            except SQLAlchemyError as error:
                _complain("database_failed", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _put_again(self, ids: list[str]) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        cases = await self.look_up(partial(load_cases, ids=ids))
        for case in cases.values():
            self._waiting.take_out(case.task.id)
            self._waiting.put(case.task, now_ms())
        self._on_failure()


def _complain(event: str, error: SQLAlchemyError) -> None:
    log.error(event, error=str(error), next_try_seconds=RETRY_SECONDS)
