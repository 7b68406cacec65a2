"""Where a Docker Engine is, and how to know cheaply that there is none."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from edge_agent.errors import EngineGone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.engine.client import Client

UNIX = "unix://"
DEFAULT_SOCKET = "/var/run/docker.sock"
KNOCK_SECONDS = 2.0


def socket_of(url: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the path of the engine's socket, if it has one."""
    where = url or environment.get("DOCKER_HOST") or UNIX + DEFAULT_SOCKET
    return where.removeprefix(UNIX) if where.startswith(UNIX) else None


def connect(url: str | None) -> Client:
    """Return a client of an engine that answers; it blocks. With no socket the docker package is not even imported."""
    path = socket_of(url, os.environ)
    if path is not None:
        try:
            with socket.socket(socket.AF_UNIX) as knock:
                knock.settimeout(KNOCK_SECONDS)
                knock.connect(path)
        except OSError as error:
            raise EngineGone(f"{path}: {error.strerror or error}") from error
    from edge_agent.engine.client import Client  # noqa: PLC0415

    return Client(url)
