"""All that a worker with the capability `docker` has for its containers, put together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge_agent.engine import Engine
from edge_agent.engine.connecting import socket_of
from edge_agent.engine.owned import Owned
from edge_agent.executors.container import Container
from edge_agent.rules.containers.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.messages import Scalar
    from edge_agent.abilities import Abilities
    from edge_agent.settings import WorkerSettings

DOCKER = "docker"


class Containers:
    """The engine, its containers, and the kind of task that runs them.

    Args:
        settings: Where the engine is, and what is allowed.
        worker: What this worker is called, once that is known.
        capabilities: What the worker has now.

    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        worker: Callable[[], str],
        capabilities: Callable[[], Mapping[str, Scalar]],
    ) -> None:
        self.engine = Engine(settings.docker_url)
        self.owned = Owned(self.engine, str(settings.offline_dir.resolve()), name=worker)
        self.engine.labels = lambda: self.owned.labels
        self.engine.on_return = self.owned.sweep
        policy = Policy.of(
            allow_images=settings.allow_images,
            allow_mounts=settings.allow_mounts,
            allow_devices=settings.allow_devices,
            socket=_resolved(socket_of(settings.docker_url, os.environ)),
        )
        self.executor = Container(self.engine, policy, capabilities=capabilities, owned=self.owned)

    def tell(self, abilities: Abilities) -> None:
        """Withdraw the capability while the engine does not answer."""

        def on_change(is_there: bool, reason: str) -> None:  # noqa: FBT001  what the engine calls it with
            if is_there:
                abilities.restore(DOCKER)
            else:
                abilities.withdraw(DOCKER, reason)

        self.engine.on_change = on_change


def _resolved(path: str | None) -> str | None:
    return os.path.realpath(path) if path else None
