"""Where the hub listens for HTTP, and where it does not dare to."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from broker.errors import SettingsError
from broker.problems import Problem, shown
from hub.store.engine import open_engine
from hub.store.tokens import any_token

if TYPE_CHECKING:
    from hub.settings import HubSettings


def listen(settings: HubSettings) -> socket.socket:
    """Return a socket that listens where the settings say. Raises `SettingsError`."""
    host = settings.http_host
    if not (is_loopback(host) or settings.allow_anonymous or settings.require_tokens or _has_tokens(settings)):
        expected = (
            "a loopback address while there are no tokens: make one with `edge-hub tokens create`, "
            "or say HUB_ALLOW_ANONYMOUS=true"
        )
        raise SettingsError([Problem("HUB_HTTP_HOST", shown(host), expected)])
    try:
        family = socket.getaddrinfo(host, settings.http_port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, settings.http_port), family=family, backlog=1024)
    except OSError as error:
        where = Problem("HUB_HTTP_PORT", str(settings.http_port), f"a port that is free on {host} ({error.strerror})")
        raise SettingsError([where]) from None
    # Inherited by each connection. asyncio's own loop sets it only where a socket names its protocol, and this one does
    # not: the body of an answer would wait 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_tokens(settings: HubSettings) -> bool:
    """Look into the database, if there is one yet."""
    try:
        file = Path(make_url(settings.database_url).database or "")
    except ArgumentError:
        return False  # told where the database is opened
    if not file.is_file():
        return False
    engine = open_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            return any_token(connection)
    finally:
        engine.dispose()
