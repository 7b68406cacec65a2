"""What the hub keeps beside tasks: input that was refused, and reports that move no task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.messages import Event
    from broker.problems import Problem


@dataclass(frozen=True, slots=True)
class Rejection:
    """Input that was refused, and by whom: a worker's id, or `hub`."""

    at_ms: int
    topic: str
    site: str | None
    reported_by: str
    task: str | None
    reason: str
    problems: Sequence[Problem]
    payload: str


class Report(NamedTuple):
    """An event with its number, by the hub's clock to within `error_ms`; None is not known."""

    number: int
    event: Event
    error_ms: int | None = None
