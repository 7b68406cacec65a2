"""Reads a batch of a worker's journal, however much of it can be read, and says what in it is new."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json

from broker.errors import InvalidInput
from broker.messages import EVENT, Batch, Dropped, Gap
from broker.messages.base import MAX_MILLISECONDS
from broker.problems import explain

if TYPE_CHECKING:
    from broker.messages import AnyEvent

_ROOT = "batch"


class Unreadable(Gap):
    """An event that this hub cannot read, of a newer agent or a damaged disk: kept as it came."""

    event: str


def read_batch(payload: bytes, now: int) -> Batch:
    """Return the batch in `payload`, with an `Unreadable` in place of each event that is none.

    What is wrong with the batch itself stays an error, an unknown field too: it may change what the numbers mean, and
    nothing is lost by waiting for a newer hub.

    Raises:
        InvalidInput: If it is no JSON, or no batch.

    """
    try:
        return Batch.model_validate_json(payload)
    except ValidationError as error:
        if not any(_is_in_an_event(problem["loc"]) for problem in error.errors(include_url=False)):
            raise InvalidInput(explain(error, root=_ROOT)) from None
    return _read_each(from_json(payload), now)


def fresh(batch: Batch, mark: int) -> list[tuple[int, AnyEvent]]:
    """Return what of `batch` is behind the `mark`, with its numbers.

    Nothing is, where something is missing between the two: it is on its way, or will be sent again.
    """
    if not batch.follows <= mark < batch.last:
        return []
    return [one for one in batch.numbered() if one[0] > mark]


def _read_each(content: dict[str, Any], now: int) -> Batch:
    read: list[AnyEvent] = []
    for event in content["events"]:
        read.append(_read_event(event, about_then=read[-1].at if read else now))
    numbers = content.get("numbers")
    given = {**content, "events": tuple(read), "numbers": tuple(numbers) if isinstance(numbers, list) else numbers}
    try:
        return Batch.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(explain(error, root=_ROOT)) from None


def _is_in_an_event(location: tuple[int | str, ...]) -> bool:
    return len(location) > 1 and location[0] == "events"


def _read_event(event: object, *, about_then: int) -> AnyEvent:
    text = json.dumps(event, ensure_ascii=False)
    try:
        return EVENT.validate_json(text)
    except ValidationError as error:
        (problem, *_) = explain(error, root="event")
        at = event.get("at") if isinstance(event, dict) else None
        when = at if isinstance(at, int) and not isinstance(at, bool) and 0 <= at <= MAX_MILLISECONDS else about_then
        return Unreadable(
            at=when, dropped=Dropped.UNREADABLE, count=1, first_at=when, last_at=when, reason=str(problem), event=text
        )
