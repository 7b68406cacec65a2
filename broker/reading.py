"""Reads what a tasks topic carries: one task or an array of them, each good or refused on its own.

A worker and the hub read the same bytes and must come to the same view of them, so it is done here, once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from broker.messages import (
    MANY_REQUESTS,
    MANY_WORKER_TASKS,
    MAX_MESSAGE_BYTES,
    MAX_REJECTED_BYTES,
    ONE_REQUEST,
    ONE_WORKER_TASK,
    Assignment,
    TaskRequest,
    TaskSubmission,
)
from broker.problems import Problem, explain, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = "message"
_ASSIGNMENT_BYTES = 8 * 1024  # what the hub adds to the largest task: attempt, defaults, where to reply
_ONE_SUBMISSION: TypeAdapter[TaskSubmission] = TypeAdapter(TaskSubmission)
_MANY_SUBMISSIONS: TypeAdapter[list[TaskSubmission]] = TypeAdapter(list[TaskSubmission])

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Refused:
    """Input that is no task.

    Attributes:
        problems: What is wrong, never empty.
        payload: The first KiB of the input, as text.
        task: The id that it carries, where it carries one.
        position: Its place in an array.

    """

    problems: tuple[Problem, ...]
    payload: str
    task: str | None = None
    position: int | None = None

    @property
    def reason(self) -> str:
        """Everything that is wrong, in one line."""
        return "; ".join(str(problem) for problem in self.problems)


def read_site_tasks(payload: bytes) -> list[TaskRequest | Refused]:
    """Read a message of a site's tasks topic."""
    return _read(payload, ONE_REQUEST, MANY_REQUESTS, MAX_MESSAGE_BYTES)


def read_worker_tasks(payload: bytes) -> list[Assignment | TaskRequest | Refused]:
    """Read a message of a worker's own tasks topic, which carries the hub's assignments too."""
    return _read(payload, ONE_WORKER_TASK, MANY_WORKER_TASKS, MAX_MESSAGE_BYTES + _ASSIGNMENT_BYTES)


def read_submissions(payload: bytes, limit: int) -> list[TaskSubmission | Refused]:
    """Read an array of tasks as posted to the hub; `limit` is the most bytes that it may have."""
    return _read(payload, _ONE_SUBMISSION, _MANY_SUBMISSIONS, limit)


def read_submission_lines(payload: bytes) -> list[TaskSubmission | Refused]:
    """Read tasks one to a line (NDJSON): a line that is no task stands in nobody's way. Raises nothing."""
    read: list[TaskSubmission | Refused] = []
    for position, line in enumerate(line for line in payload.splitlines() if line.strip()):
        try:
            read.append(_ONE_SUBMISSION.validate_json(line))
        except ValidationError as error:
            read.append(_refused(error, line, position))
    return read or [Refused((Problem(_ROOT, shown(excerpt(payload)), "at least one task"),), excerpt(payload))]


def excerpt(payload: bytes) -> str:
    """Return the first KiB of `payload` as text, with what is no UTF-8 escaped."""
    return payload[:MAX_REJECTED_BYTES].decode("utf-8", "backslashreplace")


def _read(payload: bytes, one: TypeAdapter[Read], many: TypeAdapter[list[Read]], limit: int) -> list[Read | Refused]:
    if len(payload) > limit:
        problem = Problem(_ROOT, f"{len(payload)} bytes long", f"at most {limit} bytes")
        return [Refused((problem,), excerpt(payload))]
    is_array = payload.lstrip()[:1] == b"["
    if is_array and payload.strip(b" \t\r\n[]") == b"":
        return [Refused((Problem(_ROOT, excerpt(payload), "at least one task"),), excerpt(payload))]
    try:
        return [*many.validate_json(payload)] if is_array else [one.validate_json(payload)]
    except ValidationError as error:
        if is_array and error.errors(include_url=False)[0]["type"] != "json_invalid":
            return _read_each(from_json(payload), one)
        return [_refused(error, payload)]


def _read_each(elements: Sequence[object], one: TypeAdapter[Read]) -> list[Read | Refused]:
    """Read an array of which at least one element is bad, so that the good ones are not lost with it."""
    read: list[Read | Refused] = []
    for position, element in enumerate(elements):
        text = json.dumps(element).encode()
        try:
            read.append(one.validate_json(text))
        except ValidationError as error:
            read.append(_refused(error, text, position))
    return read


def _refused(error: ValidationError, payload: bytes, position: int | None = None) -> Refused:
    prefix = () if position is None else (position,)
    problems = tuple(explain(error, root=_ROOT, prefix=prefix))
    return Refused(problems, excerpt(payload), _id_of(payload), position)


def _id_of(payload: bytes) -> str | None:
    """Return the id of a refused task, so that who sent it can find the refusal."""
    try:
        value = from_json(payload)
    except ValueError:
        return None
    task = value.get("id") if isinstance(value, dict) else None
    return task if isinstance(task, str) else None
