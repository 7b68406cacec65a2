"""The kinds of task that there is code for, by name. Which of them are offered, `edge_agent.abilities` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.messages import BUILT_IN_KINDS
from edge_agent.errors import PluginError
from edge_agent.executors.http import Http
from edge_agent.executors.noop import Noop
from edge_agent.executors.sleep import Sleep
from edge_agent.rules.policy import parse
from edge_agent.rules.urls import UrlPattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edge_agent.executors.base import Executor
    from edge_agent.executors.handler import Handler


class Registry:
    """Executors by the kind of task that they run.

    Attributes:
        kinds: The executors.
        limited: Those of which only so many tasks may run at one time.

    """

    def __init__(self) -> None:
        self.kinds: dict[str, Executor] = {}
        self.limited: dict[str, Handler] = {}

    @classmethod
    def of(
        cls,
        handlers: Iterable[Handler],
        *,
        allow_commands: Iterable[str] = (),
        command_dirs: Sequence[Path] = (),
        command_env: Sequence[str] = (),
        command_user: str | None = None,
        command_processes: int | None = None,
        allow_urls: Sequence[str] | None = None,
        http_ca: Path | None = None,
    ) -> Registry:
        """Return the built-in kinds and those of `handlers`.

        `command` and `http` are offered only where something is allowed.

        Raises:
            PluginError: For a name that is taken.
            SettingsError: If commands cannot be bounded here as is asked for.

        """
        registry = cls()
        registry.add(Noop())
        registry.add(Sleep())
        patterns = parse(allow_commands)
        if patterns:
            from edge_agent.executors.bounds import Bounds  # noqa: PLC0415  only where it is used
            from edge_agent.executors.command import Command  # noqa: PLC0415

            bounds = Bounds.of(dirs=command_dirs, passed=command_env, user=command_user, processes=command_processes)
            registry.add(Command(patterns, bounds))
        if allow_urls is None:
            registry.add(Http(ca=http_ca))
        elif allow_urls:
            registry.add(Http([UrlPattern.parse(one) for one in allow_urls], ca=http_ca))
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
        if handler.concurrency:
            self.limited[handler.kind] = handler

    @property
    def concurrency(self) -> dict[str, int]:
        """How many may run at one time, of the kinds that are limited."""
        return {kind: one.concurrency for kind, one in self.limited.items() if one.concurrency}
