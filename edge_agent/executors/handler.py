"""A Python function as a kind of task: its params are validated from its signature."""

from __future__ import annotations

import asyncio
import inspect
import threading
import typing
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, create_model
from pydantic_core import to_json

from broker.log import get_logger
from broker.problems import explain
from edge_agent.context import TaskContext
from edge_agent.errors import PluginError
from edge_agent.executors.base import PARAMS, Params

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

    from broker.messages import Requirement
    from broker.problems import Problem

THREAD_GRACE_SECONDS = 2.0
"""How long a thread may take to see that its attempt is over; then it is left alone, and may go on for ever."""

log = get_logger(__name__)

_NO_ARGUMENT = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


class Handler:
    """Runs a function for each task of its name; a plain function runs in a thread.

    Args:
        kind: The name of its tasks.
        function: Its first parameter gets the `TaskContext`, the others the params by name.
        requires: What a worker must have to offer it.

    Raises:
        PluginError: If the function's signature cannot be given params by name.

    """

    def __init__(
        self, kind: str, function: Callable[..., Any], requires: Mapping[str, Requirement] | None = None
    ) -> None:
        self.kind = kind
        self.requires = dict(requires or {})
        self._function = function
        self._model = _params_of(kind, function)
        self._names = {field: info.alias or field for field, info in self._model.model_fields.items()}

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
        """Return what the signature says is wrong."""
        try:
            self._read(params)
        except ValidationError as error:
            return explain(error, root=PARAMS, prefix=(PARAMS,))
        return []

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:  # noqa: ARG002
        """Allow everything: who installs a handler wants it to run."""
        return None

    async def run(self, params: Mapping[str, JsonValue], context: TaskContext) -> Any:  # noqa: ANN401  what the handler returns
        """Call the function with its validated arguments."""
        read = self._read(params)
        arguments = {name: getattr(read, field) for field, name in self._names.items()}
        if inspect.iscoroutinefunction(self._function):
            return await self._function(context, **arguments)
        return await _in_thread(lambda: self._function(context, **arguments), context, self.kind)

    async def reattach(
        self,
        params: Mapping[str, JsonValue],
        context: TaskContext,
        handle: JsonValue,
    ) -> None:
        """Take up nothing: a function dies with the agent."""

    def _read(self, params: Mapping[str, JsonValue]) -> Params:
        # By way of JSON, where pydantic's strict mode takes a text for a date or an enum, but none for a number.
        return self._model.model_validate_json(to_json(params))


def _params_of(kind: str, function: Callable[..., Any]) -> type[Params]:
    """Make a model of all parameters but the first."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or any(one.kind in _NO_ARGUMENT for one in parameters[1:]):
        msg = f"{kind}: the function needs a first parameter for the context, and named ones for the params"
        raise PluginError(msg)
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


async def _in_thread(function: Callable[[], Any], context: TaskContext, name: str) -> Any:  # noqa: ANN401
    """Run `function` in a thread of its own, which does not keep the program from ending, as a pool's would.

    Cancelled, it waits for the thread to see that (`TaskContext.cancelled`), but not for ever.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:  # noqa: ANN401
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def run() -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = function()
        except (StopIteration, SystemExit, KeyboardInterrupt) as error:  # which a future cannot pass on
            failure = RuntimeError(f"{type(error).__name__}: {error}")
        except BaseException as error:  # noqa: BLE001  it is the task's, whatever it is
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        context.cancel()
        await asyncio.wait([future], timeout=THREAD_GRACE_SECONDS)
        if not future.done():
            log.warning("handler_left_behind", task=context.task_id, kind=name, reason="its thread did not end in time")
        raise
