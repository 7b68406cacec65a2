"""The HTTP server: uvicorn, as a hub uses it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from hub.settings import HubSettings
    from hub.tls import ServerCertificate

STOP_SECONDS = 2
"""How long requests that are under way may take when the hub stops."""

KEEP_ALIVE_SECONDS = 30
"""How long an idle connection is kept: a worker by HTTP asks each 5 s, and need not connect for that."""


class Server(uvicorn.Server):
    """Uvicorn without its own signal handling: the hub ends in its own order.

    Attributes:
        is_up: Set once it listens. Asked to end before that, uvicorn would leave its sockets open.

    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def http_server(app: ASGIApp, settings: HubSettings, certificate: ServerCertificate | None) -> Server:
    """Return a server of `app`, which speaks HTTPS and nothing else where there is a certificate."""
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            # Uvicorn would believe whoever asks from 127.0.0.1, and whom FORWARDED_ALLOW_IPS names.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            ssl_context_factory=(lambda _config, _default: certificate.context) if certificate else None,
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
    )
