"""A function's parameters as the params of a task: what is wrong with them, and what the function is called with."""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, create_model
from pydantic_core import to_json

from broker.problems import explain
from edge_agent.context import TaskContext
from edge_agent.errors import PluginError
from edge_agent.executors.base import PARAMS, Params

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

    from broker.problems import Problem

_NO_ARGUMENT = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """What a function is called with: the context first, then the params by name.

    Args:
        kind: The name of its tasks.
        function: Of whose parameters all but the first are params.

    Raises:
        PluginError: If it cannot be given params by name, or has no result to return.

    """

    def __init__(self, kind: str, function: Callable[..., Any]) -> None:
        self._model = _model_of(kind, function)
        self._names = {field: info.alias or field for field, info in self._model.model_fields.items()}

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
        """Return what is wrong with a task's params."""
        try:
            self._read(params)
        except ValidationError as error:
            return explain(error, root=PARAMS, prefix=(PARAMS,), given=params)
        return []

    def read(self, params: Mapping[str, JsonValue]) -> dict[str, Any]:
        """Return the arguments beside the context. Raises `pydantic.ValidationError`."""
        read = self._read(params)
        return {name: getattr(read, field) for field, name in self._names.items()}

    def _read(self, params: Mapping[str, JsonValue]) -> Params:
        # By way of JSON, where pydantic's strict mode takes a text for a date or an enum, but none for a number.
        return self._model.model_validate_json(to_json(params))


def _model_of(kind: str, function: Callable[..., Any]) -> type[Params]:
    """Make a model of all parameters but the first."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind in _NAMED or any(one.kind in _NO_ARGUMENT for one in parameters[1:]):
        msg = f"{kind}: the function needs a first parameter for the context, and named ones for the params"
        raise PluginError(msg)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{kind}: the function yields: expected one that returns its result, once")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {
            # By alias, so that an argument may be called `copy` or `json`, as methods of a model are.
            f"argument_{number}": (hints.get(one.name, Any), _field(one))
            for number, one in enumerate(parameters[1:])
        }
        model = create_model(f"{function.__name__}_params", __base__=Params, **fields)
    except Exception as error:
        msg = f"{kind}: its parameters cannot be understood: {type(error).__name__}: {error}"
        raise PluginError(msg) from error
    first = parameters[0].name
    if hints.get(first, TaskContext) not in (TaskContext, Any):  # a param, and the one for the context is forgotten
        raise PluginError(f"{kind}: its first parameter is {first!r}: expected one for the TaskContext before it")
    return model


def _field(parameter: inspect.Parameter) -> Any:  # noqa: ANN401  pydantic's own answer
    if parameter.default is parameter.empty:
        return Field(alias=parameter.name)
    return Field(default=parameter.default, alias=parameter.name)
