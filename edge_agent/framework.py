"""The framework: an `Agent` collects handlers, and runs as an edge agent with them (DESIGN §11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from broker.cron import parse
from broker.messages import BUILT_IN_KINDS, Key, Kind, Requirement
from broker.problems import explain
from edge_agent.errors import PluginError
from edge_agent.executors.handler import Handler
from edge_agent.schedule.zones import zone_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.messages.schedules import Misfire

Function = TypeVar("Function", bound="Callable[..., Any]")

_KIND: TypeAdapter[str] = TypeAdapter(Kind)
_REQUIRES: TypeAdapter[dict[str, Requirement]] = TypeAdapter(dict[Key, Requirement])


@dataclass(frozen=True, slots=True)
class Timer:
    """A handler that runs again and again: after so many `seconds`, or where a `cron` expression says so."""

    kind: str
    seconds: float = 0.0
    cron: str | None = None
    timezone: str = "UTC"
    misfire: Misfire = "skip"


class Agent:
    """A collection of handlers, which is an edge agent when it runs.

    The settings are those of the stock agent: `WORKER_…` variables. The same module can be loaded into a stock agent by
    `WORKER_PLUGINS`.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.timers: list[Timer] = []

    def task(
        self, name: str, *, requires: Mapping[str, Any] | None = None, concurrency: int | None = None
    ) -> Callable[[Function], Function]:
        """Make a function the handler of the tasks of kind `name`.

        The function's first parameter gets the `TaskContext`; the others are the task's params, validated from their
        annotations. What it returns, as JSON, is the result; what it raises is the task's error.

        Args:
            name: Lower case letters, digits, `.`, `_` and `-`; no built-in kind.
            requires: What a worker must have to offer it, as in a task: `{"camera": True, "memory_mb": {"min": 256}}`.
            concurrency: How many of this kind run at one time on this worker, from 1; unset, as many as it has slots.
                What waits for that holds up no other kind.

        Raises:
            PluginError: If the name is wrong or taken, or the function cannot be called so.

        """

        def register(function: Function) -> Function:
            self._add(name, function, requires, concurrency)
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

    def cron(
        self, expression: str, *, timezone: str = "UTC", misfire: Misfire = "skip", name: str | None = None
    ) -> Callable[[Function], Function]:
        """Run a function by the calendar, as a task of its own name, on this worker alone.

        A run that is still going on when the next is due lets it pass.

        Args:
            expression: Minute, hour, day of the month, month, weekday: `0 3 * * mon-fri`.
            timezone: Whose hours those are: UTC, `local`, or as `Europe/Berlin`.
            misfire: What becomes of a time at which the agent did not run: `skip`, or `once` to make up for the last.
            name: The kind of its tasks; the function's name unless given.

        Raises:
            PluginError: As `task`; and for an expression or a time zone that cannot be understood.

        """
        try:
            parse(expression)
            zone_of(timezone)
        except ValueError as error:
            raise PluginError(f"cron({expression!r}, timezone={timezone!r}): expected {error}") from None

        def register(function: Function) -> Function:
            kind = name or function.__name__
            self._add(kind, function, None)
            self.timers.append(Timer(kind, cron=expression, timezone=timezone, misfire=misfire))
            return function

        return register

    def run(self) -> None:
        """Run as an edge agent, until SIGTERM or Ctrl-C."""
        from edge_agent.cli import run_agent  # noqa: PLC0415  a module of handlers is imported by agents, and by tests

        run_agent(agents=[self])

    def _add(
        self,
        name: str,
        function: Callable[..., Any],
        requires: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        try:
            kind = _KIND.validate_python(name)
        except ValidationError as error:
            raise PluginError(str(explain(error, root="the handler's name")[0])) from None
        try:
            required = _REQUIRES.validate_json(to_json(requires or {}))  # as in a task, where an array is no tuple
        except ValidationError as error:
            problem = explain(error, root="requires", prefix=("requires",))[0]
            raise PluginError(f"{name}: {problem}") from None
        except PydanticSerializationError as error:
            raise PluginError(f"{name}: requires is no JSON: {error}") from None
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise PluginError(f"{name}: concurrency is {concurrency!r}: expected a whole number from 1")
        if kind in BUILT_IN_KINDS:
            raise PluginError(f"{kind} is a built-in kind: give the handler another name")
        if kind in self.handlers:
            raise PluginError(f"{kind} is the name of two handlers: give one of them another name")
        self.handlers[kind] = Handler(kind, function, required, concurrency=concurrency)
