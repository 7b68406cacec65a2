"""Asks workers for the logs of their tasks, part by part: nothing of them is kept here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from broker.clock import new_id
from broker.log import get_logger
from broker.messages import LogPart, ReadLog, encode
from broker.topics import Control
from hub.errors import NoAnswer

if TYPE_CHECKING:
    from broker.link import Incoming
    from hub.rules.leases import Ref
    from hub.wire import Wire
    from hub.worker import Worker

ANSWER_SECONDS = 10.0
"""How soon a worker must answer."""

ANSWER_BY_HTTP_SECONDS = 30.0
"""How soon, where it first has to ask whether there is something for it."""

NEXT_SECONDS = 0.2
"""How long a worker by HTTP waits with its answer for the next question, which otherwise waits for it to ask again."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who was asked, and his answer."""

    worker: Worker
    answer: asyncio.Future[LogPart]


class Logs:
    """Asks, and hears the answers."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked: dict[str, _Asked] = {}
        self._next: dict[str, asyncio.Future[None]] = {}

    async def read(
        self, worker: Worker, ref: Ref, *, offset: int | None, tail: int = 0, wait_seconds: float = 0
    ) -> LogPart:
        """Return a part of an attempt's log, from `offset` or else from `tail` bytes before the end.

        Args:
            worker: Who has it.
            ref: The task and the attempt.
            offset: Of the first byte.
            tail: How many bytes before the end, where there is no offset.
            wait_seconds: How long the worker may wait for more output, if there is none.

        Raises:
            NoAnswer: If the worker does not answer in time.

        """
        # A random name, so that nobody can answer who was not asked.
        order = ReadLog(
            request=new_id(),
            reply=self._wire.reply_topic,
            task=ref[0],
            attempt=ref[1],
            offset=offset,
            tail=tail,
            wait_seconds=wait_seconds,
        )
        answer: asyncio.Future[LogPart] = asyncio.get_running_loop().create_future()
        self._asked[order.request] = _Asked(worker, answer)
        seconds = wait_seconds + (ANSWER_BY_HTTP_SECONDS if worker.by_http else ANSWER_SECONDS)
        self._wire.send(Control(worker.site, worker.id), encode(order))
        if (expected := self._next.pop(worker.id, None)) is not None:
            expected.set_result(None)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise NoAnswer(worker.id, seconds) from None
        finally:
            del self._asked[order.request]

    async def on_reply(self, incoming: Incoming) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        try:
            part = LogPart.model_validate_json(incoming.payload)
        except ValidationError as error:
            log.warning("log_part_not_understood", topic=incoming.topic, problem=str(error.errors()[0]["msg"]))
            incoming.ack()
            return
        incoming.ack()
        asked = self._asked.get(part.request)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(part)
            if asked.worker.by_http and part.data:
                await self._await_next(asked.worker.id)

    async def _await_next(self, worker: str) -> None:
        """Let a worker's post wait for the question that it can be answered with, if that comes at once."""
        expected = self._next[worker] = asyncio.get_running_loop().create_future()
        await asyncio.wait([expected], timeout=NEXT_SECONDS)
        if self._next.get(worker) is expected:
            del self._next[worker]
