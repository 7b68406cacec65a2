"""Sends the journal to the hub, in numbered batches, as `rules.flow` decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.rules import flow as rules
from edge_agent.rules.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.link import Connection
    from edge_agent.journal import Journal

log = get_logger(__name__)


class Uplink:
    """The journal's way up.

    Args:
        journal: What is sent.
        topic: Where to.
        clock: Seconds, monotonic.

    """

    def __init__(self, journal: Journal, topic: str, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._topic = topic
        self._clock = clock
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

    def on_receipt(self, stream: str, through: int) -> None:
        """Forget what the hub has committed."""
        if stream == self._journal.stream and through > self._flow.settled:
            self._journal.settle(through)
            self._move(rules.on_receipt(self._flow, through, self._clock()))

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
                self._tick()
                while rules.may_send(self._flow) and await self._send_next(connection, group):
                    pass
                await self._wait()

    async def flushed(self) -> None:
        """Wait until the hub has committed everything."""
        while self._flow.settled < self._journal.newest:
            self._empty.clear()
            await self._empty.wait()

    def _tick(self) -> None:
        before = self._flow
        self._flow = rules.on_tick(before, self._clock())
        if self._flow is not before:
            log.info("sent_again", stream=self._journal.stream, first=self._flow.cursor)

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
        deadline = rules.deadline(self._flow)
        patience = None if deadline is None else max(0.0, deadline - self._clock())
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
