"""Up: the events of a worker's journal, and the batches that carry them."""

from __future__ import annotations

from enum import StrEnum
from itertools import count, pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    Field,
    TypeAdapter,
    model_validator,
)

from broker.messages.base import (
    AttemptNumber,
    EventNumber,
    Json,
    Message,
    Milliseconds,
    TaskId,
)
from broker.messages.tasks import Outcome, ReplyTo, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    """The worker cannot run this attempt; the hub places it elsewhere, or here again where it was only `busy`.

    What its birth says that it cannot do is `busy` too: it can when another birth says so.
    """

    type: Literal["task.declined"] = "task.declined"
    reason: str
    busy: bool = False
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


class Dropped(StrEnum):
    """What a gap is about: a class of events, lowest first, or what cannot be told apart any more.

    `recent` is what gentle mode held in memory: anything but that a task was taken, which is on the disk before that
    counts.
    """

    PROGRESS = "progress"
    FACTS = "facts"
    INCIDENTS = "incidents"
    RESULTS = "results"
    RECENT = "recent"
    UNREADABLE = "unreadable"
    EVERYTHING = "everything"


class Gap(Event):
    """Events that were dropped: which class, how many, from when to when, and why; None is what nobody knows."""

    type: Literal["gap"] = "gap"
    dropped: Annotated[Dropped, Field(strict=False)]
    count: int | None = Field(default=None, ge=1)
    first_at: Milliseconds | None = None
    last_at: Milliseconds | None = None
    reason: str


class ScheduleSkipped(Event):
    """Firings of a job that did not become a task: those planned from `planned_from` to `planned_to`, and why.

    The two are times of the calendar, and are not corrected as `at` is.
    """

    type: Literal["schedule.skipped"] = "schedule.skipped"
    job: str
    planned_from: Milliseconds
    planned_to: Milliseconds
    reason: str


class WorkerStarted(Event):
    """The agent began to run. What follows, up to the next of its kind, is stamped by the clock of this `boot`."""

    type: Literal["worker.started"] = "worker.started"
    boot: str
    version: str = ""


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
    | Gap
    | ScheduleSkipped
    | WorkerStarted,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class Batch(Message):
    """Events of one stream, in order: `first`, `first + 1`, … unless `numbers` says otherwise.

    Attributes:
        after: Everything between this number and `first` is gone from the journal. The hub takes the batch if it has
            committed everything up to here; None is `first - 1`.
        numbers: The number of each event, where some between them are gone.

    """

    stream: str
    first: EventNumber
    events: tuple[AnyEvent, ...] = Field(min_length=1)
    after: int | None = Field(default=None, ge=0)
    numbers: tuple[EventNumber, ...] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.after is not None and self.after >= self.first:
            raise ValueError(f"after is {self.after}: expected a number below first, {self.first}")
        if self.numbers is not None:
            growing = all(low < high for low, high in pairwise(self.numbers))
            if len(self.numbers) != len(self.events) or self.numbers[0] != self.first or not growing:
                raise ValueError("numbers: expected one for each event, growing from first")
        return self

    @property
    def follows(self) -> int:
        """What the hub must have committed to take this batch."""
        return self.first - 1 if self.after is None else self.after

    @property
    def last(self) -> int:
        """The sequence number of the last event."""
        return self.numbers[-1] if self.numbers else self.first + len(self.events) - 1

    def numbered(self) -> Iterator[tuple[int, AnyEvent]]:
        """Yield each event with its number."""
        return zip(self.numbers or count(self.first), self.events, strict=False)
