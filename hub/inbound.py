"""What workers report, on its way into the ledger: one batch, one piece of work; then acknowledgement and receipt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import Batch, Receipt, encode
from broker.problems import explain
from broker.reading import excerpt
from broker.topics import Control
from hub.ingest import Source, apply_batch
from hub.store.reports import Rejection, add_rejections

if TYPE_CHECKING:
    from broker.link import Incoming
    from broker.topics import Events
    from hub.dispatch import Dispatcher
    from hub.feed import Feed
    from hub.fleet import Fleet
    from hub.replies import Replies
    from hub.store.ledger import Ledger
    from hub.wire import Wire

log = get_logger(__name__)


class Inbound:
    """Commits batches, and tells everybody what they changed."""

    def __init__(
        self, *, ledger: Ledger, feed: Feed, fleet: Fleet, dispatcher: Dispatcher, wire: Wire, replies: Replies
    ) -> None:
        self._ledger = ledger
        self._feed = feed
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._wire = wire
        self._replies = replies

    async def on_events(self, address: Events, incoming: Incoming) -> None:
        """Commit one batch. PUBACK and receipt follow the commit: a crash in between redelivers, and we skip."""
        try:
            batch = Batch.model_validate_json(incoming.payload)
        except ValidationError as error:
            await self._refuse(address, incoming, error)
            return
        source = Source(address.site, address.worker, self._fleet.kinds())
        done = await self._ledger.commit(partial(apply_batch, source=source, batch=batch, now=now_ms()))
        incoming.ack()
        log.debug("committed", worker=address.worker, stream=batch.stream, through=done.through)
        self._wire.send(
            Control(address.site, address.worker), encode(Receipt(stream=batch.stream, through=done.through))
        )
        self._dispatcher.on_declined(address.worker, done.declined)
        self._feed.publish(done.changes)
        self._dispatcher.on_drops(done.drops)
        for reply_to, reply in done.refused:
            self._replies.send(reply_to, reply)
        self._fleet.on_committed(address.worker, batch.stream, done.through)

    async def _refuse(self, address: Events, incoming: Incoming, error: ValidationError) -> None:
        problems = explain(error, root="batch")
        log.error("batch_not_understood", worker=address.worker, problem=str(problems[0]))
        reason = f"not a batch of events: {problems[0]}"
        rejection = Rejection(
            now_ms(),
            incoming.topic,
            address.site,
            "hub",
            None,
            reason,
            problems[:5],
            excerpt(incoming.payload),
        )
        await self._ledger.commit(partial(add_rejections, rows=[rejection]))
        incoming.ack()
