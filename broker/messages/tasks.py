"""A task: what is to be done, as it is asked for and as it is assigned, and what it came to."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
)
from pydantic_core import to_json

from broker.messages.base import (
    MAX_REPLY_TOPIC,
    MAX_TIMEOUT_SECONDS,
    AttemptNumber,
    Json,
    Key,
    Kind,
    LabelValue,
    Message,
    Scalar,
    SiteName,
    TaskId,
    WorkerName,
)


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    EXPIRED = "expired"


WORTH_ANOTHER_TRY = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED})
"""What a task that may run twice is tried again after. The worker answers who asked by it, the hub retries by it."""


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


class Reply(Message):
    """The result of a task, or why there is none, as published to who asked for it."""

    task: str | None
    outcome: Outcome | Literal["rejected", "unknown"]
    result: Json = None
    error: str | None = None


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
