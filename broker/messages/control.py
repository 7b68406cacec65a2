"""Down: what the hub tells one worker."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    TypeAdapter,
)

from broker.messages.base import (
    AttemptNumber,
    Message,
    TaskId,
)
from broker.messages.tasks import Assignment, TaskRef


class Receipt(Message):
    """Everything of `stream` up to `through` is committed to the hub's database."""

    type: Literal["receipt"] = "receipt"
    stream: str
    through: int = Field(ge=0)


class Sync(Message):
    """The hub's answer to a hello: where the journal goes on, and what the worker must not hold any more."""

    type: Literal["sync"] = "sync"
    session: str
    stream: str
    committed_through: int = Field(ge=0)
    drop: tuple[TaskRef, ...] = ()
    send: tuple[Assignment, ...] = ()
    credit: int | None = Field(default=None, ge=0)


class Cancel(Message):
    """Stop this attempt, if it is held."""

    type: Literal["cancel"] = "cancel"
    task: TaskId
    attempt: AttemptNumber
    reason: str = ""


class Credit(Message):
    """How many more batches of history the hub will take now."""

    type: Literal["credit"] = "credit"
    batches: int = Field(ge=0)


AnyControl = Annotated[Receipt | Sync | Cancel | Credit, Field(discriminator="type")]
CONTROL: TypeAdapter[AnyControl] = TypeAdapter(AnyControl)
