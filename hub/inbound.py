"""What workers report, on its way into the ledger: one batch, one piece of work; then acknowledgement and receipt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.errors import InvalidInput
from broker.log import get_logger
from broker.messages import MAX_REJECTED_BYTES, Receipt, encode
from broker.reading import excerpt
from broker.topics import Control
from hub.ingest import apply_batch
from hub.rules.batches import Unreadable, read_batch
from hub.rules.kept import Rejection
from hub.store.reports import add_rejections
from hub.worker import term_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.link import Incoming
    from broker.topics import Events
    from hub.dispatch import Dispatcher
    from hub.feed import Feed
    from hub.fleet import Fleet
    from hub.reception import Reception
    from hub.replies import Replies
    from hub.rules.reading import Reading, Source
    from hub.store.cases import Change
    from hub.store.ledger import Ledger
    from hub.wire import Wire

log = get_logger(__name__)


class Inbound:
    """Commits batches, and tells everybody what they changed."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        feed: Feed,
        fleet: Fleet,
        reception: Reception,
        dispatcher: Dispatcher,
        wire: Wire,
        replies: Replies,
    ) -> None:
        self._ledger = ledger
        self._feed = feed
        self._fleet = fleet
        self._reception = reception
        self._dispatcher = dispatcher
        self._wire = wire
        self._replies = replies

    async def on_events(self, address: Events, incoming: Incoming) -> None:
        """Commit one batch. PUBACK and receipt follow the commit: a crash in between redelivers, and we skip."""
        now = now_ms()
        try:
            batch = read_batch(incoming.payload, now)
        except InvalidInput as error:
            await self._refuse(address, incoming, error)
            return
        # The worker's clocks and hello as they are at this moment: what came before the batch counts, and no more.
        source = self._fleet.source(address.site, address.worker)
        done = await self._ledger.commit(partial(apply_batch, source=source, batch=batch, now=now))
        incoming.ack()
        log.debug("committed", worker=address.worker, stream=batch.stream, through=done.through)
        self._wire.send(
            Control(address.site, address.worker), encode(Receipt(stream=batch.stream, through=done.through))
        )
        if done.reading:
            _complain(address.worker, batch.stream, done.reading)
            self._tell(source, batch.stream, done.changes, done.reading)
        self._reception.on_committed(address.worker, batch.stream, done.through)

    def _tell(self, source: Source, stream: str, changes: Sequence[Change], reading: Reading) -> None:
        if source.birth:
            # What it declined before its hello, as it stopped, or while its engine was gone, it may take now.
            declined = [task for number, task in reading.declined if source.is_behind_hello(stream, number)]
            self._dispatcher.on_declined(source.worker, term_of(source.birth), declined)
        self._feed.publish(changes)
        self._dispatcher.on_drops(reading.drops)
        for reply_to, reply in reading.refused:
            self._replies.send(reply_to, reply)

    async def _refuse(self, address: Events, incoming: Incoming, error: InvalidInput) -> None:
        problems = error.problems
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


def _complain(worker: str, stream: str, reading: Reading) -> None:
    for number, event, _ in reading.reports:
        if isinstance(event, Unreadable):
            log.error(
                "event_not_understood",
                worker=worker,
                stream=stream,
                number=number,
                problem=event.reason,
                told=event.event[:MAX_REJECTED_BYTES],
            )
