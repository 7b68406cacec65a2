"""Answers hellos (DESIGN §5), and paces what follows: where a journal goes on, the clocks, how much may come now."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import ClockEcho, Credit, encode
from broker.topics import Control
from hub.rules.pacing import Pacing
from hub.welcome import welcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.messages import Birth
    from hub.feed import Feed
    from hub.rules.pacing import Grant
    from hub.store.ledger import Ledger
    from hub.welcome import Welcome
    from hub.wire import Wire
    from hub.worker import Worker

RETRY_SECONDS = 2.0
"""How long a hello waits that could not be committed."""

log = get_logger(__name__)


class Greeting:
    """Answers hellos, and gives credit.

    Args:
        ledger: Commits what a hello changes.
        feed: Tells it to the rest of the hub.
        wire: Carries the answers.

    """

    def __init__(self, ledger: Ledger, feed: Feed, wire: Wire) -> None:
        self._ledger = ledger
        self._feed = feed
        self._wire = wire
        self._pacing = Pacing()
        self._sites: dict[str, str] = {}

    async def answer(self, worker: Worker, hello: Birth, *, received_at: int) -> int | None:
        """Answer a hello, and return how far the worker's journal is committed; None if another hello has come since.

        Args:
            worker: Who said it.
            hello: What it said.
            received_at: When it came, in milliseconds.

        """
        welcomed = await self._welcome(worker, hello)
        if welcomed is None:
            return None
        self._feed.publish(welcomed.changes)
        through, journal = welcomed.sync.committed_through, hello.journal
        credit = self._pacing.begin(worker.id, journal.stream, journal.newest, through, now_ms())
        self._sites[worker.id] = worker.site
        clock = ClockEcho(sent_at=hello.at, received_at=received_at, answered_at=now_ms())
        sync = welcomed.sync.model_copy(update={"credit": credit, "clock": clock})
        self._wire.send(Control(worker.site, worker.id), encode(sync))
        return through

    def on_committed(self, worker: str, stream: str, through: int) -> None:
        """Give more credit for a batch that has moved the mark of a stream."""
        self._send(self._pacing.committed(worker, stream, through, now_ms()))

    def on_gone(self, worker: str) -> None:
        """Give the credit of a worker that is gone to others."""
        self._send(self._pacing.gone(worker, now_ms()))

    def on_back(self, worker: str) -> None:
        """Give a worker that is back its credit again, since it may say no hello: a late will had it gone, say."""
        self._send(self._pacing.back(worker, now_ms()))

    def tick(self, now: int) -> None:
        """Give credit that brought nothing to others."""
        self._send(self._pacing.tick(now))

    async def _welcome(self, worker: Worker, hello: Birth) -> Welcome | None:
        while worker.birth is hello:
            try:
                return await self._ledger.commit(partial(welcome, worker=worker.row, birth=hello, now=now_ms()))
            except SQLAlchemyError as error:
                log.error("hello_not_kept", worker=worker.id, error=str(error), next_try_seconds=RETRY_SECONDS)  # noqa: TRY400
                await asyncio.sleep(RETRY_SECONDS)
        return None

    def _send(self, grants: Iterable[Grant]) -> None:
        for worker, batches in grants:
            self._wire.send(Control(self._sites[worker], worker), encode(Credit(batches=batches)))
