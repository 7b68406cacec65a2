"""Makes of a command line the task that it asks for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from broker.errors import InvalidInput
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterable


def pairs(option: str, given: Iterable[str], *, as_text: bool = False) -> dict[str, Any]:
    """Return `name=value` texts as an object: each value is JSON, or where it is none, or `as_text`, the text itself.

    >>> pairs("--param", ["seconds=0.5", "name=nas-01", 'argv=["uptime"]'])
    {'seconds': 0.5, 'name': 'nas-01', 'argv': ['uptime']}

    Raises:
        InvalidInput: If there is no `=`.

    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput([Problem(option, shown(text), "name=value")])
        found[name] = value if as_text else _value(value)
    return found


def an_object(option: str, text: str) -> dict[str, Any]:
    """Return a JSON object. Raises `InvalidInput`."""
    value = json_of(option, text)
    if not isinstance(value, dict):
        raise InvalidInput([Problem(option, shown(text), "a JSON object")])
    return value


def json_of(option: str, text: str) -> Any:  # noqa: ANN401  JSON
    """Return what a JSON text says. Raises `InvalidInput`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput([Problem(option, shown(text), f"valid JSON ({error})")]) from None


def given(**fields: object) -> dict[str, object]:
    """Return the fields that were given: the hub knows the defaults of the rest."""
    return {name: value for name, value in fields.items() if value not in (None, {}, "")}


def _value(text: str) -> Any:  # noqa: ANN401  JSON
    try:
        return json.loads(text)
    except ValueError:
        return text
