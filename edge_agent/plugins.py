"""Loads what WORKER_PLUGINS names: every `Agent` in it gives its handlers to this one.

A name is that of a plugin that an installed package offers (an entry point of the group `holdfast.plugins`), or else
that of a module. `*` is every plugin that is installed. What is not named is not loaded: to install a package is not to
run it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.errors import PluginError
from edge_agent.framework import Agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.metadata import EntryPoint

GROUP = "holdfast.plugins"
EVERY = "*"

log = get_logger(__name__)


def load(names: Iterable[str]) -> list[Agent]:
    """Import what `names` name, and return the agents that are in it. Raises `PluginError`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` would: a site's module often lies beside its settings
    names = list(names)
    installed = _installed() if names else {}
    agents: list[Agent] = []
    for name in names:
        for agent in _agents_of(name, installed):
            if agent not in agents:
                agents.append(agent)
    return agents


def _installed() -> dict[str, EntryPoint]:
    """Return what the installed packages offer, by name."""
    plugins: dict[str, EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        other = plugins.setdefault(point.name, point)
        if other.value != point.value:
            packages = " and ".join(sorted(one.dist.name if one.dist else "?" for one in (other, point)))
            raise PluginError(f"{point.name} is a plugin of {packages}: uninstall one of them")
    return plugins


def _agents_of(name: str, installed: dict[str, EntryPoint]) -> Iterator[Agent]:
    if name == EVERY:
        for plugin in sorted(installed):
            yield from _agents_of(plugin, installed)
    elif point := installed.get(name):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "?"
        source = f"the plugin '{name}' of {package}, {point.value}"
        yield from _agents_in(source, _import(source, point.load, "one that can be loaded"))
        log.info("plugin", name=name, package=package)
    else:
        others = f", or an installed plugin: {', '.join(sorted(installed))}" if installed else ""
        source = f"'{name}'"
        module = _import(source, lambda: importlib.import_module(name), f"a module that can be imported{others}")
        yield from _agents_in(source, module)


def _import(source: str, load: Callable[[], object], expected: str) -> object:
    try:
        return load()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"WORKER_PLUGINS is {source}: expected {expected} ({reason})") from error


def _agents_in(source: str, loaded: object) -> list[Agent]:
    values = vars(loaded).values() if isinstance(loaded, ModuleType) else [loaded]
    agents = [value for value in values if isinstance(value, Agent)]
    if not agents:
        raise PluginError(f"WORKER_PLUGINS is {source}: expected an edge_agent.Agent, or a module that holds one")
    return agents
