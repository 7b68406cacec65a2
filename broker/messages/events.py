"""Up: the events of a worker's journal, and the batches that carry them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    Field,
    TypeAdapter,
)

from broker.messages.base import (
    AttemptNumber,
    Json,
    Message,
    Milliseconds,
    TaskId,
)
from broker.messages.tasks import Outcome, ReplyTo, TaskSpec


class Event(Message):
    """One row of a worker's journal, at a time by the worker's clock."""

    at: Milliseconds


class TaskEvent(Event):
    """An event of one attempt."""

    task: TaskId
    attempt: AttemptNumber


class Via(StrEnum):
    """How a task that the hub did not assign reached the worker."""

    SITE = "site"
    WORKER = "worker"
    SCHEDULE = "schedule"


class Injected(Message):
    """A task that the hub has not seen, or not yet: all that it needs to know it, and to place it elsewhere."""

    spec: TaskSpec
    via: Via
    reply: ReplyTo | None = None


class TaskAccepted(TaskEvent):
    """The worker holds this attempt, committed to its disk."""

    type: Literal["task.accepted"] = "task.accepted"
    injected: Injected | None = None


class TaskStarted(TaskEvent):
    """The attempt runs."""

    type: Literal["task.started"] = "task.started"


class TaskProgress(TaskEvent):
    """How far the attempt is: `fraction` from 0 to 1."""

    type: Literal["task.progress"] = "task.progress"
    fraction: float = Field(ge=0, le=1)
    message: str = ""


class TaskFinished(TaskEvent):
    """How the attempt ended."""

    type: Literal["task.finished"] = "task.finished"
    outcome: Outcome
    result: Json = None
    error: str | None = None


class TaskDeclined(TaskEvent):
    """The worker cannot run this attempt; the hub places it elsewhere."""

    type: Literal["task.declined"] = "task.declined"
    reason: str
    injected: Injected | None = None


class InputProblem(Message):
    """One thing that is wrong with a rejected input (`broker.problems.Problem` on the wire)."""

    field: str
    value: str
    expected: str


class TaskRejected(Event):
    """Input that is no task. `payload` is the first KiB of it."""

    type: Literal["task.rejected"] = "task.rejected"
    topic: str
    reason: str
    problems: tuple[InputProblem, ...] = ()
    payload: str
    task: str | None = None


class FactObserved(Event):
    """A named value of a subject, as this worker saw it."""

    type: Literal["fact.observed"] = "fact.observed"
    subject: str = Field(min_length=1, max_length=256)
    name: str = Field(min_length=1, max_length=128)
    value: Json
    ttl_seconds: float | None = Field(default=None, gt=0)


class IncidentRaised(Event):
    """Something is wrong; the same fingerprint counts up."""

    type: Literal["incident.raised"] = "incident.raised"
    fingerprint: str
    incident: str
    severity: Literal["info", "warning", "error", "critical"] = "warning"
    subject: str | None = None
    summary: str
    labels: dict[str, str] = {}


class IncidentCleared(Event):
    """What was wrong is so no more."""

    type: Literal["incident.cleared"] = "incident.cleared"
    fingerprint: str


class Gap(Event):
    """Events that the journal had to drop: which class, how many, from when to when, and why."""

    type: Literal["gap"] = "gap"
    dropped: str
    count: int = Field(ge=1)
    first_at: Milliseconds
    last_at: Milliseconds
    reason: str


AnyEvent = Annotated[
    TaskAccepted
    | TaskStarted
    | TaskProgress
    | TaskFinished
    | TaskDeclined
    | TaskRejected
    | FactObserved
    | IncidentRaised
    | IncidentCleared
    | Gap,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class Batch(Message):
    """Events `first`, `first + 1`, … of one stream, in order."""

    stream: str
    first: int = Field(ge=1)
    events: tuple[AnyEvent, ...] = Field(min_length=1)

    @property
    def last(self) -> int:
        """The sequence number of the last event."""
        return self.first + len(self.events) - 1
