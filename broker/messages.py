"""Every message of the contract, as a frozen pydantic model (DESIGN §3, §5).

Models are strict: a misspelt field or a number in quotes is an error, never a guess. Times are Unix milliseconds
by the sender's clock. `encode` and each model's `model_validate_json` are the way to and from bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    TypeAdapter,
)
from pydantic_core import to_json

from broker.topics import NAME_PATTERN

MAX_MESSAGE_BYTES = 256 * 1024
"""The largest message that a tasks topic takes, and the largest result of a task."""

MAX_REJECTED_BYTES = 1024
"""How much of a rejected message a report repeats."""

MAX_TIMEOUT_SECONDS = 31 * 24 * 3600.0
MAX_REPLY_TOPIC = 512

BUILT_IN_KINDS = frozenset({"noop", "sleep", "command", "container", "http"})
"""Kinds that a hub takes though no worker has offered them yet."""


def _finite(value: JsonValue) -> JsonValue:
    """Refuse NaN and the infinities, which are no JSON and would be stored as null."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            msg = "finite numbers (NaN and Infinity are no JSON)"
            raise ValueError(msg)
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return value


Json = Annotated[JsonValue, AfterValidator(_finite)]
SiteName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
WorkerName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
TaskId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=256)]
Scalar = bool | int | float | str
Milliseconds = Annotated[int, Field(ge=0)]
AttemptNumber = Annotated[int, Field(ge=1)]


class Message(BaseModel):
    """What all messages share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    EXPIRED = "expired"


# -- a task ----------------------------------------------------------------------------------------------------------


def _number_tag(value: object) -> str:
    return "<int>" if isinstance(value, int) and not isinstance(value, bool) else "<float>"


def _scalar(value: object) -> object:
    if not isinstance(value, Scalar):
        msg = "true, false, a number or a text"
        raise ValueError(msg)  # noqa: TRY004  pydantic makes an error of it that names the field
    return value


# Tags and a validator, where a plain union would do: its errors would name each of its members as if it were a field.
Number = Annotated[Annotated[int, Tag("<int>")] | Annotated[float, Tag("<float>")], Discriminator(_number_tag)]
Option = Annotated[Scalar, BeforeValidator(_scalar)]


class Bound(Message):
    """What a capability must be, where equality does not say it. All that is given must hold."""

    min: Number | None = None
    max: Number | None = None
    in_: tuple[Option, ...] | None = Field(default=None, alias="in", min_length=1)


class Retry(Message):
    """How often a task is tried, and how long to wait before the second try; each later wait is twice as long."""

    max_attempts: int = Field(default=1, ge=1, le=100)
    backoff_seconds: float = Field(default=1.0, ge=0, le=86400)


def _requirement_tag(value: object) -> str | None:
    if isinstance(value, Scalar):
        return "<scalar>"
    return "<bound>" if isinstance(value, dict | Bound) else None


Requirement = Annotated[
    Annotated[Scalar, Tag("<scalar>")] | Annotated[Bound, Tag("<bound>")],
    Discriminator(
        _requirement_tag,
        custom_error_type="requirement",
        custom_error_message='true, false, a number, a text, or an object of "min", "max" and "in"',
    ),
]
"""What a capability must be: equal to a value, or within a bound."""


class TaskSpec(Message):
    """What is to be done, whoever asks. Only `kind` is required."""

    kind: Kind
    params: dict[str, Json] = {}
    requires: dict[Key, Requirement] = {}
    priority: int = Field(default=0, ge=-100, le=100)
    timeout_seconds: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)
    expires_in_seconds: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)
    retry: Retry = Retry()
    idempotent: bool = True
    target: Literal["one", "all"] = "one"
    labels: dict[Key, LabelValue] = {}


_SPEC_FIELDS = set(TaskSpec.model_fields)


class TaskRequest(TaskSpec):
    """A task as it is injected on a tasks topic; site and worker come from the topic."""

    id: TaskId | None = None

    def spec(self) -> TaskSpec:
        """Return what is to be done, without the id."""
        return TaskSpec.model_construct(**{name: getattr(self, name) for name in TaskSpec.model_fields})


class TaskSubmission(TaskRequest):
    """A task as it is posted to the hub."""

    site: SiteName | None = None
    worker: WorkerName | None = None


class ReplyTo(Message):
    """Where the result is published for who asked, beside all else; `correlation` is base64."""

    topic: str = Field(max_length=MAX_REPLY_TOPIC)
    correlation: str | None = None


class Assignment(TaskSpec):
    """A task as the hub hands it to one worker: `attempt` is the fencing token."""

    id: TaskId
    attempt: AttemptNumber
    reply: ReplyTo | None = None


def _task_tag(value: object) -> str:
    has_attempt = "attempt" in value if isinstance(value, dict) else isinstance(value, Assignment)
    return "<assignment>" if has_attempt else "<request>"


WorkerTask = Annotated[
    Annotated[Assignment, Tag("<assignment>")] | Annotated[TaskRequest, Tag("<request>")],
    Discriminator(_task_tag),
]
"""What a worker's own tasks topic carries: only the hub's tasks have an attempt."""

ONE_REQUEST: TypeAdapter[TaskRequest] = TypeAdapter(TaskRequest)
MANY_REQUESTS: TypeAdapter[list[TaskRequest]] = TypeAdapter(list[TaskRequest])
ONE_WORKER_TASK: TypeAdapter[Assignment | TaskRequest] = TypeAdapter(WorkerTask)
MANY_WORKER_TASKS: TypeAdapter[list[Assignment | TaskRequest]] = TypeAdapter(list[WorkerTask])


class TaskRef(Message):
    """One attempt at one task."""

    task: TaskId
    attempt: AttemptNumber


# -- up: a worker's journal ------------------------------------------------------------------------------------------


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


# -- down: control ---------------------------------------------------------------------------------------------------


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


# -- presence --------------------------------------------------------------------------------------------------------


class JournalPosition(Message):
    """What waits in a journal: sequence numbers `oldest` to `newest`; `oldest` is `newest + 1` where none does."""

    stream: str
    oldest: int = Field(ge=1)
    newest: int = Field(ge=0)


class Birth(Message):
    """A worker is online: what it can do, and its hello. `session` is new for every connection."""

    state: Literal["online"] = "online"
    session: str
    boot: str
    at: Milliseconds
    version: str
    capabilities: dict[Key, Scalar] = {}
    slots: int = Field(ge=1)
    kinds: tuple[Kind, ...]
    heartbeat_interval_seconds: float = Field(gt=0)
    session_expiry_seconds: int = Field(ge=0)
    journal: JournalPosition
    held: tuple[TaskRef, ...] = ()


class Farewell(Message):
    """A worker is gone: `stopped` when it said so itself, `offline` when the broker says so for it (its will)."""

    state: Literal["offline", "stopped"]
    session: str


WorkerStatus = Annotated[Birth | Farewell, Field(discriminator="state")]
STATUS: TypeAdapter[Birth | Farewell] = TypeAdapter(WorkerStatus)


class JournalDepth(Message):
    """What waits in a journal."""

    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    oldest_at: Milliseconds | None = None


class HeartbeatMessage(Message):
    """A worker's load. Every attempt in `running` is a lease that it keeps alive."""

    session: str
    at: Milliseconds
    running: tuple[TaskRef, ...] = ()
    queued: int = Field(ge=0)
    journal: JournalDepth
    written_bytes_today: int = Field(ge=0)
    cpu_percent: float = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    disk_free_bytes: int = Field(ge=0)


class HubStatusMessage(Message):
    """Whether a hub is there to take events; `session` is new for every connection."""

    state: Literal["online", "offline"]
    session: str
    version: str = ""


class Reply(Message):
    """The result of a task, or why there is none, as published to who asked for it."""

    task: str | None
    outcome: Outcome | Literal["rejected", "unknown"]
    result: Json = None
    error: str | None = None


class Bootstrap(Message):
    """What `GET /api/bootstrap` tells a worker that knows only the hub's URL."""

    broker_url: str
    root: str


def encode(message: BaseModel | list[Assignment] | list[TaskRequest]) -> bytes:
    """Return `message` as JSON, without what stands at its default."""
    return to_json(message, by_alias=True, exclude_none=True)


def digest(spec: TaskSpec, *scope: str | None) -> str:
    """Return a fingerprint of what is to be done (and where), to tell a repeated task from a clashing one.

    The order of an object's keys has no meaning in JSON, so it makes no other task.
    """
    body = json.dumps(
        spec.model_dump(by_alias=True, include=_SPEC_FIELDS, exclude_defaults=True),
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.blake2b("\0".join((body, *(part or "" for part in scope))).encode(), digest_size=16).hexdigest()


def assignment_json(spec: str, task: str, attempt: int, reply: str | None) -> str:
    """Return an `Assignment` as JSON, from the spec and the reply as JSON.

    What was validated and stored is handed on as it is: to parse and write it again would cost a dispatch more than all
    the rest of it.
    """
    tail = f',"id":{to_json(task).decode()},"attempt":{attempt}'
    if reply:
        tail += f',"reply":{reply}'
    return f"{spec.rstrip()[:-1]}{tail}}}"
