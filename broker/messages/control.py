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
    Milliseconds,
    TaskId,
)
from broker.messages.logs import ReadLog
from broker.messages.schedules import ScheduleJob
from broker.messages.tasks import Assignment, TaskRef


class Receipt(Message):
    """Everything of `stream` up to `through` is committed to the hub's database."""

    type: Literal["receipt"] = "receipt"
    stream: str
    through: int = Field(ge=0)


class ClockEcho(Message):
    """The hub's part of a clock exchange (RFC 5905, §8).

    `sent_at` is when the hello was sent, by the worker's clock; the others are when it came and when it was answered,
    by the hub's.
    """

    sent_at: Milliseconds
    received_at: Milliseconds
    answered_at: Milliseconds


class Sync(Message):
    """The hub's answer to a hello: where the journal goes on, what the worker must not hold, and what it should.

    `credit` is how many batches the hub takes for now; None is as many as there are.
    """

    type: Literal["sync"] = "sync"
    session: str
    stream: str
    committed_through: int = Field(ge=0)
    drop: tuple[TaskRef, ...] = ()
    send: tuple[Assignment, ...] = ()
    credit: int | None = Field(default=None, ge=0)
    clock: ClockEcho | None = None


class Cancel(Message):
    """Stop this attempt, if it is held."""

    type: Literal["cancel"] = "cancel"
    task: TaskId
    attempt: AttemptNumber
    reason: str = ""


class Credit(Message):
    """How many more batches the hub takes now; None is as many as there are."""

    type: Literal["credit"] = "credit"
    batches: int | None = Field(default=None, ge=0)


class Renew(Message):
    """Close the intake in order, say hello, and open it anew.

    The hello proves to the hub that whatever was on its way to this worker before is either held or gone.
    """

    type: Literal["renew"] = "renew"


class Schedules(Message):
    """All that the hub wants this worker to fire by itself: it takes the place of what was pushed before.

    The worker keeps it on its disk, and says its `revision` in its next hello.
    """

    type: Literal["schedules"] = "schedules"
    revision: str
    jobs: tuple[ScheduleJob, ...] = ()


AnyControl = Annotated[Receipt | Sync | Cancel | Credit | Renew | Schedules | ReadLog, Field(discriminator="type")]
CONTROL: TypeAdapter[AnyControl] = TypeAdapter(AnyControl)
