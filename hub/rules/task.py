"""What the hub knows of a task: the task, its attempts, and the states that they go through (DESIGN §4).

`Task` and `Attempt` are tuples in the order of their columns; `hub.rules.life` says what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from broker.messages import digest

if TYPE_CHECKING:
    from broker.messages import ReplyTo, TaskSpec

VIA_HTTP = "http"

ONE = "one"
ALL = "all"
"""What a task is for: one worker, or each that matches."""


class TaskState(StrEnum):
    """Where a task is in its life."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


ENDED = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED, TaskState.EXPIRED})
HELD = frozenset({TaskState.ASSIGNED, TaskState.RUNNING})


class AttemptState(StrEnum):
    """Where one attempt is."""

    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    EXPIRED = "expired"
    DECLINED = "declined"
    LOST = "lost"
    REFUSED = "refused"


class Attempt(NamedTuple):
    """One try by one worker. What the worker timed is by the hub's clock to within `error_ms`; None is not known."""

    number: int
    worker: str
    state: AttemptState
    assigned_ms: int | None = None
    accepted_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    result: object = None
    error: str | None = None
    progress: float | None = None
    progress_message: str | None = None
    superseded: bool = False
    error_ms: int | None = None


class Candidate(NamedTuple):
    """A worker that should get a task from a tasks topic: by which opening of its intake, into which journal.

    Either is empty where it is not known.
    """

    intake: str = ""
    stream: str = ""


class Task(NamedTuple):
    """A task as it stands.

    Attributes:
        spec: What is to be done: a `TaskSpec` as JSON, as it was validated.
        digest: Its fingerprint with site and worker, to tell a repeated id from a clashing one.
        via: How it came: `http`, or a value of `broker.messages.Via`.
        pinned: The only worker that may run it.
        reply: A `ReplyTo` as JSON.
        attempt: The number of the current attempt, the fencing token; of an ended task, the number of its end.
        worker: Who holds or held the current attempt; of an ended task, whose end it is. None where the hub or a person
            ended it.
        offered_to: While it is watched: the workers that should accept it.
        cancel_ms: When somebody asked to cancel it.
        target: `one`, or `all` for a parent: no worker is given it, for each has a child of it (`hub.rules.children`).
        parent: Whose child it is.

    """

    id: str
    kind: str
    spec: str
    digest: str
    via: str
    site: str | None
    pinned: str | None
    priority: int
    idempotent: bool
    max_attempts: int
    backoff_seconds: float
    created_ms: int
    expires_ms: int | None = None
    reply: str | None = None
    state: TaskState = TaskState.PENDING
    reason: str | None = None
    attempt: int = 0
    worker: str | None = None
    result: object = None
    error: str | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    not_before_ms: int | None = None
    offered_to: dict[str, Candidate] | None = None
    cancel_ms: int | None = None
    target: str = ONE
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A task with all its attempts, by number and worker."""

    task: Task
    attempts: dict[tuple[int, str], Attempt] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drop:
    """This worker must not go on with this attempt."""

    worker: str
    task: str
    attempt: int
    reason: str


def new_task(
    spec: TaskSpec,
    task_id: str,
    *,
    via: str,
    site: str | None,
    pinned: str | None,
    now: int,
    reply: ReplyTo | None = None,
) -> Task:
    """Return a task that has just come in, pending, with no attempt yet."""
    text = spec.model_dump_json(
        by_alias=True, exclude_none=True, include=set(type(spec).model_fields) - {"id", "site", "worker"}
    )
    return Task(
        id=task_id,
        kind=spec.kind,
        spec=text,
        digest=digest(spec, site, pinned),
        via=via,
        site=site,
        pinned=pinned,
        priority=spec.priority,
        idempotent=spec.idempotent,
        max_attempts=spec.retry.max_attempts,
        backoff_seconds=spec.retry.backoff_seconds,
        created_ms=now,
        expires_ms=now + int(spec.expires_in_seconds * 1000) if spec.expires_in_seconds else None,
        reply=reply.model_dump_json(exclude_none=True) if reply else None,
        target=spec.target,
    )
