"""Sends the journal to the hub, in numbered batches, as `rules.flow` decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.errors import StorageClosed, StorageError
from edge_agent.rules import flow as rules
from edge_agent.rules.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.connection import Connection
    from edge_agent.store.journal import Journal

log = get_logger(__name__)


class Uplink:
    """The journal's way up.

    Args:
        journal: What is sent.
        topic: Where to.
        clock: Seconds, monotonic.
        on_prompt: Told whether the hub gives receipts promptly, again and again.

    """

    def __init__(
        self,
        journal: Journal,
        topic: str,
        clock: Callable[[], float],
        on_prompt: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._journal = journal
        self._topic = topic
        self._clock = clock
        self._on_prompt = on_prompt
        self._flow = Flow()
        self._changed = asyncio.Event()
        self._empty = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether a hub is there and has said where it stands."""
        return self._flow.open

    def on_sync(self, stream: str, through: int, credit: int | None) -> None:
        """Begin where the hub stands."""
        if stream == self._journal.stream:
            self._journal.settle(through)
            self._move(rules.on_sync(self._flow, through, credit))

    def knows_more(self, stream: str, through: int) -> bool:
        """Tell whether the hub has more of this stream than this file ever told: it is an old copy of another."""
        return stream == self._journal.stream and through > self._journal.told

    async def begin_stream(self) -> None:
        """Give what waits to a new stream, of which the hub knows nothing yet."""
        old = self._journal.stream
        await self._journal.begin_stream()
        self._move(Flow())
        log.warning(
            "stream_begun", stream=self._journal.stream, instead_of=old, reason="the hub knows more of the old one"
        )

    def on_receipt(self, stream: str, through: int) -> None:
        """Forget what the hub has committed."""
        flow = rules.on_receipt(self._flow, through, self._clock())
        if stream == self._journal.stream and flow is not self._flow:
            self._journal.settle(through)
            self._move(flow)

    def on_credit(self, batches: int | None) -> None:
        """Send so many more; None is as many as there are."""
        self._move(rules.on_credit(self._flow, batches))

    def on_hub_away(self) -> None:
        """Send nothing until the next sync."""
        self._move(rules.on_hub_away(self._flow))

    async def run(self, connection: Connection) -> None:
        """Send, until the connection ends."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                self._journal.grown.clear()
                await self._tick()
                while rules.may_send(self._flow) and await self._send_next(connection, group):
                    pass
                self._tell_whether_prompt()
                await self._wait()

    async def flushed(self) -> None:
        """Wait until the hub has committed everything."""
        while self._flow.settled < self._journal.newest:
            self._empty.clear()
            await self._empty.wait()

    async def _tick(self) -> None:
        """Send again what has no receipt; first see that it can be read, or the hub will never take it."""
        before = self._flow
        self._flow = rules.on_tick(before, self._clock())
        if self._flow is not before:
            log.info("sent_again", stream=self._journal.stream, first=self._flow.cursor)
            try:
                await self._journal.mend(before.flights[0].first, before.flights[-1].last)
            except StorageClosed:
                raise
            except StorageError as error:  # after the next silence, then
                log.warning("journal_not_mended", reason=error.reason)

    async def _send_next(self, connection: Connection, group: asyncio.TaskGroup) -> bool:
        """Send one more batch, if there is one, without waiting for its PUBACK."""
        cursor = self._flow.cursor
        lease = await self._journal.lease(after=cursor - 1)
        if lease is None or self._flow.cursor != cursor or not rules.may_send(self._flow):
            return lease is not None  # a sync came in between: look again
        self._flow = rules.on_sent(self._flow, lease.first, lease.last, self._clock())
        payload = lease.payload(self._journal.stream)
        group.create_task(connection.publish(self._topic, payload), name=f"batch-{lease.first}-{lease.last}")
        await asyncio.sleep(0)  # batches are published in the order of their numbers
        return True

    async def _wait(self) -> None:
        """Wait for news: events in the journal, a word from the hub, or a silence that is too long."""
        now = self._clock()
        look = rules.next_look(self._flow, now)
        patience = None if look is None else max(0.0, look - now)
        waiters = [self._changed.wait()]
        if rules.may_send(self._flow):
            waiters.append(self._journal.grown.wait())
        tasks = [asyncio.ensure_future(waiter) for waiter in waiters]
        try:
            await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _move(self, flow: Flow) -> None:
        self._flow = flow
        self._changed.set()
        self._empty.set()
        self._tell_whether_prompt()

    def _tell_whether_prompt(self) -> None:
        self._on_prompt(rules.is_prompt(self._flow, self._clock()))
