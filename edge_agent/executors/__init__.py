"""One file a kind of task, found through a registry."""

from edge_agent.executors.base import Executor, Params
from edge_agent.executors.registry import Registry

__all__ = ["Executor", "Params", "Registry"]
