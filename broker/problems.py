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


def explain(error: ValidationError, *, root: str = "body", prefix: tuple[str | int, ...] = ()) -> list[Problem]:
    """Return a pydantic error as problems; `root` names the whole input, `prefix` says where in it the model stood."""
    return [_problem(detail, root, prefix) for detail in error.errors(include_url=False)]


def _problem(detail: ErrorDetails, root: str, prefix: tuple[str | int, ...]) -> Problem:
    kind = detail["type"]
    value = "" if kind == "missing" else shown(detail["input"])
    return Problem(path((*prefix, *detail["loc"]), root), value, _expected(kind, detail.get("ctx", {}), detail["msg"]))


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
