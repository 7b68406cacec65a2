"""The framework: an `Agent` collects handlers, and runs as an edge agent with them (DESIGN §11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from broker.messages import BUILT_IN_KINDS, Key, Kind, Requirement
from broker.problems import explain
from edge_agent.errors import PluginError
from edge_agent.executors.handler import Handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Function = TypeVar("Function", bound="Callable[..., Any]")

_KIND: TypeAdapter[str] = TypeAdapter(Kind)
_REQUIRES: TypeAdapter[dict[str, Requirement]] = TypeAdapter(dict[Key, Requirement])


@dataclass(frozen=True, slots=True)
class Timer:
    """A handler that runs again and again."""

    kind: str
    seconds: float


class Agent:
    """A collection of handlers, which is an edge agent when it runs.

    The settings are those of the stock agent: `WORKER_…` variables. The same module can be loaded into a stock agent by
    `WORKER_PLUGINS`.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.timers: list[Timer] = []

    def task(self, name: str, *, requires: Mapping[str, Any] | None = None) -> Callable[[Function], Function]:
        """Make a function the handler of the tasks of kind `name`.

        The function's first parameter gets the `TaskContext`; the others are the task's params, validated from their
        annotations. What it returns, as JSON, is the result; what it raises is the task's error.

        Args:
            name: Lower case letters, digits, `.`, `_` and `-`; no built-in kind.
            requires: What a worker must have to offer it, as in a task: `{"camera": True, "memory_mb": {"min": 256}}`.

        Raises:
            PluginError: If the name is wrong or taken, or the function cannot be called so.

        """

        def register(function: Function) -> Function:
            self._add(name, function, requires)
            return function

        return register

    def every(
        self, *, hours: float = 0, minutes: float = 0, seconds: float = 0, name: str | None = None
    ) -> Callable[[Function], Function]:
        """Run a function every so often, as a task of its own name, on this worker alone.

        The first run is one interval after the start. A run that is still going on when the next is due lets it pass.

        Args:
            hours: The interval is the sum of the three.
            minutes: See above.
            seconds: See above.
            name: The kind of its tasks; the function's name unless given.

        Raises:
            PluginError: As `task`; and for an interval of nothing.

        """
        interval = hours * 3600 + minutes * 60 + seconds
        if interval <= 0:
            raise PluginError(f"every(…) is {interval:g} seconds: expected more than none")

        def register(function: Function) -> Function:
            kind = name or function.__name__
            self._add(kind, function, None)
            self.timers.append(Timer(kind, interval))
            return function

        return register

    def run(self) -> None:
        """Run as an edge agent, until SIGTERM or Ctrl-C."""
        from edge_agent.cli import run_agent  # noqa: PLC0415  a module of handlers is imported by agents, and by tests

        run_agent(agents=[self])

    def _add(self, name: str, function: Callable[..., Any], requires: Mapping[str, Any] | None) -> None:
        try:
            kind = _KIND.validate_python(name)
        except ValidationError as error:
            raise PluginError(str(explain(error, root="the handler's name")[0])) from None
        try:
            required = _REQUIRES.validate_python(dict(requires or {}))
        except ValidationError as error:
            problem = explain(error, root="requires", prefix=("requires",))[0]
            raise PluginError(f"{name}: {problem}") from None
        if kind in BUILT_IN_KINDS:
            raise PluginError(f"{kind} is a built-in kind: give the handler another name")
        if kind in self.handlers:
            raise PluginError(f"{kind} is the name of two handlers: give one of them another name")
        self.handlers[kind] = Handler(kind, function, required)
