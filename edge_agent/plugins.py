"""Loads the modules of WORKER_PLUGINS: every `Agent` in them gives its handlers to this one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import PluginError
from edge_agent.framework import Agent

if TYPE_CHECKING:
    from collections.abc import Iterable


def load(modules: Iterable[str]) -> list[Agent]:
    """Import `modules` and return their agents. Raises `PluginError`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` would: a site's module often lies beside its settings
    agents: list[Agent] = []
    for name in modules:
        for agent in _agents_of(name):
            if agent not in agents:
                agents.append(agent)
    return agents


def _agents_of(name: str) -> list[Agent]:
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"WORKER_PLUGINS is '{name}': expected a module that can be imported ({reason})") from error
    agents = [value for value in vars(module).values() if isinstance(value, Agent)]
    if not agents:
        raise PluginError(f"WORKER_PLUGINS is '{name}': expected a module that holds an edge_agent.Agent")
    return agents
