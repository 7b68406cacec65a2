"""The kinds of task that there is code for, by name. Which of them are offered, `edge_agent.abilities` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.messages import BUILT_IN_KINDS
from edge_agent.errors import PluginError
from edge_agent.executors.noop import Noop
from edge_agent.executors.sleep import Sleep
from edge_agent.rules.policy import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.executors.base import Executor
    from edge_agent.executors.handler import Handler


class Registry:
    """Executors by the kind of task that they run."""

    def __init__(self) -> None:
        self.kinds: dict[str, Executor] = {}

    @classmethod
    def of(cls, handlers: Iterable[Handler], *, allow_commands: Iterable[str] = ()) -> Registry:
        """Return the built-in kinds and those of `handlers`.

        `command` is offered only where some command is allowed. Raises `PluginError` for a name that is taken.
        """
        registry = cls()
        registry.add(Noop())
        registry.add(Sleep())
        patterns = parse(allow_commands)
        if patterns:
            from edge_agent.executors.command import Command  # noqa: PLC0415  only where it is used

            registry.add(Command(patterns))
        for handler in handlers:
            registry.add_handler(handler)
        return registry

    def add(self, executor: Executor) -> None:
        """Offer a kind."""
        self.kinds[executor.kind] = executor

    def add_handler(self, handler: Handler) -> None:
        """Offer a handler under its name."""
        if handler.kind in BUILT_IN_KINDS:
            raise PluginError(f"{handler.kind} is a built-in kind: give the handler another name")
        if handler.kind in self.kinds:
            raise PluginError(f"{handler.kind} is the name of two handlers: give one of them another name")
        self.add(handler)
