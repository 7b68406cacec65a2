"""Reads tasks' logs out to the hub, which asks for them part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import Refused
from broker.log import get_logger
from broker.messages import LogPart, encode
from edge_agent.rules.attempts import Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.messages import ReadLog
    from broker.topics import Topics
    from edge_agent.connection import Connection
    from edge_agent.logs import Logs, Part

log = get_logger(__name__)


class Readout:
    """Answers the hub's order `log`.

    Args:
        topics: Where it may be answered.
        logs: What is read.
        awaits_its_turn: Whether an attempt is held that has not begun: its output is still to come.

    """

    def __init__(self, topics: Topics, logs: Logs, awaits_its_turn: Callable[[Ref], bool]) -> None:
        self._topics = topics
        self._logs = logs
        self._awaits_its_turn = awaits_its_turn

    async def answer(self, connection: Connection, order: ReadLog) -> None:
        """Send the part that is asked for, and wait for it first where there is nothing yet."""
        if not self._topics.is_reply(order.reply):
            log.warning("log_not_sent", task=order.task, reason=f"{order.reply[:200]!r} is no topic for replies")
            return
        part = encode(await self._part(order))
        try:
            await connection.publish(order.reply, part)
        except Refused as refused:  # who asked hears nothing, and asks again: all else goes on
            log.warning("log_not_sent", task=order.task, **refused.told)

    async def _part(self, order: ReadLog) -> LogPart:
        ref = Ref(order.task, order.attempt)
        try:
            is_open, part = await self._read(ref, order)
            if is_open and not part.data and order.wait_seconds:
                await self._logs.wait_for_more(ref, part.offset, lambda: self._may_grow(ref), order.wait_seconds)
                is_open, part = await self._read(ref, order)
        except OSError as error:
            return LogPart(request=order.request, kept=True, problem=f"its disk does not give it: {error.strerror}")
        return LogPart(
            request=order.request,
            offset=part.offset,
            first=part.first,
            size=part.size,
            kept=part.is_kept,
            open=is_open,
            dropped_until=part.dropped_until,
        ).with_content(part.data)

    async def _read(self, ref: Ref, order: ReadLog) -> tuple[bool, Part]:
        is_open = self._may_grow(ref)  # asked before it is read: at the end of a closed log there is nothing more
        return is_open, await self._logs.read(ref, order.offset, tail=order.tail, limit=order.limit)

    def _may_grow(self, ref: Ref) -> bool:
        return self._logs.is_open(ref) or self._awaits_its_turn(ref)
