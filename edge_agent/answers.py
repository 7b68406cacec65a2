"""Answers on response topics: kept with the inbox until the broker has them."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import TYPE_CHECKING

from broker.errors import Refused
from broker.log import get_logger
from edge_agent.store import inbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.messages import Reply, ReplyTo
    from edge_agent.connection import Connection
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.inbox import Answer

log = get_logger(__name__)


class Answers:
    """Publishes what was answered, in order, whenever there is a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, Answer] = {}
        self._wake = asyncio.Event()

    async def load(self) -> None:
        """Take up what an earlier run could not publish."""
        self._on_added(await self._database.read(inbox.answers))

    def add(self, transaction: Transaction, to: ReplyTo, reply: Reply) -> None:
        """Keep an answer within `transaction`."""
        answer = inbox.answer(transaction, to, reply)
        transaction.after_commit(partial(self._on_added, [answer]))

    async def run(self, connection: Connection) -> None:
        """Publish, until the connection ends."""
        while True:
            self._wake.clear()
            for answer in list(self._waiting.values()):
                await _publish(connection, answer)
                # After PUBACK: an answer is MQTT's own QoS 1. One that is published twice does no harm.
                self._database.post(partial(inbox.answered, numbers=[answer.id]), frees=True)
                self._waiting.pop(answer.id, None)
            await self._wake.wait()

    def _on_added(self, answers: Sequence[Answer]) -> None:
        self._waiting.update((answer.id, answer) for answer in answers)
        self._wake.set()


async def _publish(connection: Connection, answer: Answer) -> None:
    """Publish an answer. One that will never be taken is given up: it must not keep back the others, nor the link."""
    try:
        await connection.publish(answer.to.topic, answer.body, correlation=_correlation(answer.to))
    except Refused as refused:
        if refused.passing:
            raise
        log.warning("answer_refused", topic=answer.to.topic, **refused.told)


def _correlation(to: ReplyTo) -> bytes | None:
    return base64.b64decode(to.correlation) if to.correlation is not None else None
