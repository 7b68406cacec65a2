"""One attempt at a task, from the moment that the worker holds it until it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydantic import JsonValue

    from broker.messages import Outcome, ReplyTo, TaskSpec, Via


class Ref(NamedTuple):
    """Which attempt at which task: `broker.messages.TaskRef`, as cheap as a key must be."""

    task: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt that the worker holds.

    Attributes:
        digest: The fingerprint of `spec`.
        via: How it came, where the hub did not assign it.
        reply: Where the result is published beside all else; only for injected tasks.
        accepted_at: Milliseconds.
        running: Whether it was begun.
        handle: What its executor kept to find its work again.
        problem: Why it cannot be run: what was kept of it could not be read.

    """

    ref: Ref
    spec: TaskSpec
    digest: str
    accepted_at: int
    via: Via | None = None
    reply: ReplyTo | None = None
    running: bool = False
    handle: JsonValue = None
    problem: str | None = None

    @property
    def expires_at(self) -> int | None:
        """When it is not worth beginning any more, in milliseconds."""
        seconds = self.spec.expires_in_seconds
        return None if seconds is None else self.accepted_at + int(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    outcome: Outcome
    result: JsonValue = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the worker remembers of a task's id: the highest attempt that it held, and its fingerprint."""

    attempt: int
    digest: str
