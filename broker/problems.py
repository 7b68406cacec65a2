"""Says what is wrong with an input: the field, its value, and what was expected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MAX_SHOWN_VALUE = 120
"""Characters of a wrong value that an error repeats."""

NO_SUCH_FIELD = "no such field"
REQUIRED = "a value"

_DATE = "a date, as in 2026-12-01"
_TIME = "a time, as in 2026-12-01T08:00:00Z"
_TIME_OF_DAY = "a time of day, as in 08:00:00"
_DURATION = "a duration, as in PT1H30M"

_EXPECTED = {
    "extra_forbidden": NO_SUCH_FIELD,
    "missing": REQUIRED,
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "dict_type": "an object",
    "list_type": "an array",
    "tuple_type": "an array",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "bool_parsing": "true or false",
    "set_type": "an array",
    "frozen_set_type": "an array",
    "dataclass_type": "an object",
    "none_required": "null",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "time_type": _TIME_OF_DAY,
    "time_parsing": _TIME_OF_DAY,
    "time_delta_type": _DURATION,
    "time_delta_parsing": _DURATION,
    "timezone_aware": "a time with its distance from UTC, as in 2026-12-01T08:00:00Z",
}

_EXPECTED_WITH_CONTEXT = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number from {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number up to {le}",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_long": "at most {max_length} items",
    "too_short": "at least {min_length} items",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "json_invalid": "valid JSON ({error})",
    "union_tag_invalid": "{discriminator} to be one of {expected_tags}",
    "union_tag_not_found": "an object with {discriminator}",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input. `str()` of it is what people read."""

    field: str
    value: str
    expected: str

    def __str__(self) -> str:
        if self.expected == NO_SUCH_FIELD:
            return f"{self.field} is {self.value}: there is no such field"
        return f"{self.field} is {self.value or 'missing'}: expected {self.expected}"

    def as_dict(self) -> dict[str, str]:
        """Return the problem as it stands in rejections and problem documents."""
        return {"field": self.field, "value": self.value, "expected": self.expected, "message": str(self)}


def shown(value: object) -> str:
    """Return `value` as people typed it, cut to `MAX_SHOWN_VALUE` characters."""
    if isinstance(value, bytes):
        text = repr(value.decode("utf-8", "backslashreplace"))
    else:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):
            text = repr(value)
    return text if len(text) <= MAX_SHOWN_VALUE else text[: MAX_SHOWN_VALUE - 1] + "…"


def path(location: Iterable[str | int], root: str) -> str:
    """Return pydantic's location as people write it: `("requires", "memory_mb", 0)` is `requires.memory_mb[0]`."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not step.startswith("<"):  # the tag of a union's member, which people did not write
            text += f".{step}"
    return text.removeprefix(".") or root


def explain(
    error: ValidationError, *, root: str = "body", prefix: tuple[str | int, ...] = (), given: object = None
) -> list[Problem]:
    """Return a pydantic error as problems.

    Args:
        error: What pydantic says.
        root: The name of the whole input.
        prefix: Where in it the model stood.
        given: What the model was given, where it may have unions without tags: pydantic says of each member of a union
            what is wrong, as if it were a field. Those are put together.

    """
    details = error.errors(include_url=False)
    if given is None:
        return [_problem(detail, detail["loc"], root, prefix) for detail in details]
    return _put_together(_problem(detail, _as_given(detail, given), root, prefix) for detail in details)


def _problem(
    detail: ErrorDetails, location: tuple[str | int, ...], root: str, prefix: tuple[str | int, ...]
) -> Problem:
    kind = detail["type"]
    value = "" if kind == "missing" else shown(detail["input"])
    return Problem(path((*prefix, *location), root), value, _expected(kind, detail.get("ctx", {}), detail["msg"]))


def _as_given(detail: ErrorDetails, given: Any) -> tuple[str | int, ...]:  # noqa: ANN401  any JSON
    """Return where an error is without the steps that are not in what was given: they name a union's members."""
    location: list[str | int] = []
    for number, step in enumerate(detail["loc"], start=1):
        is_last_of_missing = detail["type"] == "missing" and number == len(detail["loc"])
        if _has(given, step):
            given = given[step]
        elif not is_last_of_missing:
            continue
        location.append(step)
    return tuple(location)


def _has(given: object, step: str | int) -> bool:
    if isinstance(given, list):
        return isinstance(step, int) and step < len(given)
    return isinstance(given, dict) and step in given


def _put_together(problems: Iterable[Problem]) -> list[Problem]:
    """Make one of the problems that are of one field and value: what any of them expects would do."""
    expected: dict[tuple[str, str], dict[str, None]] = {}
    for problem in problems:
        expected.setdefault((problem.field, problem.value), {})[problem.expected] = None
    return [Problem(field, value, " or ".join(options)) for (field, value), options in expected.items()]


def _expected(kind: str, context: dict[str, Any], message: str) -> str:
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _EXPECTED_WITH_CONTEXT:
        words = _EXPECTED_WITH_CONTEXT[kind].format_map({name: _plain(one) for name, one in context.items()})
        is_whole = any(isinstance(context.get(bound), int) for bound in ("gt", "ge", "lt", "le"))
        return words.replace("a number", "a whole number") if is_whole else words
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


def _plain(bound: object) -> object:
    """Write a bound as people do: 0, not 0.0."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound
