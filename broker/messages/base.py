"""What all messages are made of: strict models, names, and finite JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)
from pydantic_core import to_json

from broker.topics import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_MESSAGE_BYTES = 256 * 1024
"""The largest message that a tasks topic takes, and the largest result of a task."""

MAX_REJECTED_BYTES = 1024
"""How much of a rejected message a report repeats."""

MAX_MILLISECONDS = 253_402_300_799_999
"""The end of the year 9999. Beyond it there is no RFC 3339, and sooner or later no room in a database."""

MAX_EVENT_NUMBER = 2**53
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
Milliseconds = Annotated[int, Field(ge=0, le=MAX_MILLISECONDS)]
AttemptNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
EventNumber = Annotated[int, Field(ge=1, le=MAX_EVENT_NUMBER)]


class Message(BaseModel):
    """What all messages share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def encode(message: BaseModel | Sequence[BaseModel]) -> bytes:
    """Return `message` as JSON, without what stands at its default."""
    return to_json(message, by_alias=True, exclude_none=True)
