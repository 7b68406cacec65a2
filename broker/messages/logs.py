"""A task's output, which stays on its worker: how the hub asks for a part of it, and what the worker answers.

The hub asks on the worker's control topic, and names the topic under `replies/` on which it hears the answer. None of
this goes through the journal: what is lost on the way is asked for again.
"""

from __future__ import annotations

import base64
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints

from broker.messages.base import MAX_REPLY_TOPIC, AttemptNumber, Message, Milliseconds, TaskId

MAX_PART_BYTES = 128 * 1024
"""How much of a log one answer holds."""

MAX_LOG_WAIT_SECONDS = 30.0


def _base64(value: str) -> str:
    base64.b64decode(value, validate=True)  # its error is a ValueError
    return value


Offset = Annotated[int, Field(ge=0, le=2**53)]


class ReadLog(Message):
    """Send up to `limit` bytes of an attempt's log.

    Attributes:
        request: Names the answer.
        reply: The topic of the answer.
        offset: Of the first byte that is wanted; None is `tail` bytes before the end.
        wait_seconds: How long to wait for output where there is none at `offset` yet.

    """

    type: Literal["log"] = "log"
    request: str = Field(min_length=1, max_length=64)
    reply: str = Field(min_length=1, max_length=MAX_REPLY_TOPIC)
    task: TaskId
    attempt: AttemptNumber
    offset: Offset | None = None
    tail: Offset = 0
    limit: int = Field(default=MAX_PART_BYTES, ge=1, le=MAX_PART_BYTES)
    wait_seconds: float = Field(default=0, ge=0, le=MAX_LOG_WAIT_SECONDS)


class LogPart(Message):
    """A part of an attempt's log.

    Attributes:
        offset: Of the first byte of `data`. It is later than was asked for where that is not kept any more.
        data: In base64.
        first: The offset of the first byte that is kept.
        size: The offset behind the last.
        kept: Whether there is a log at all.
        open: Whether more may come.
        dropped_until: Until when, by the worker's clock, logs were dropped to make room for newer ones.
        problem: Why the log cannot be read.

    """

    request: str
    offset: Offset = 0
    data: Annotated[str, StringConstraints(max_length=2 * MAX_PART_BYTES), AfterValidator(_base64)] = ""
    first: Offset = 0
    size: Offset = 0
    kept: bool = False
    open: bool = False
    dropped_until: Milliseconds | None = None
    problem: str | None = None

    @property
    def content(self) -> bytes:
        """The bytes."""
        return base64.b64decode(self.data)

    def with_content(self, content: bytes) -> Self:
        """Return the part with these bytes."""
        return self.model_copy(update={"data": base64.b64encode(content).decode()})
