"""`/health` and `/api/bootstrap`: whether the hub works, and where a worker finds the broker."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import Route

from broker import __version__
from broker.messages import Bootstrap
from hub.api.answers import JSON
from hub.api.context import context_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import Request
    from starlette.responses import Response

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


async def get_health(request: Request) -> Response:
    """Say whether the hub can do its work: 200 while its database answers, with what else is amiss."""
    context = context_of(request)
    connected = context.wire.connected.is_set()
    try:
        await context.read(_ping)
    except SQLAlchemyError as error:
        body = {
            "status": "failed",
            "version": __version__,
            "broker": _said(connected),
            "database": str(error),
        }
        return JSON(body, HTTPStatus.SERVICE_UNAVAILABLE)
    in_step = context.keeper.is_in_step if connected else None
    status = "ok" if connected and in_step is not False else "degraded"
    body = {"status": status, "version": __version__, "broker": _said(connected), "database": "ok"}
    if in_step is not None:
        body["accounts"] = "ok" if in_step else "not all at the broker"
    return JSON(body)


async def get_bootstrap(request: Request) -> Response:
    """Tell a worker where the broker is, as seen from where the worker asks."""
    return JSON(Bootstrap(broker_url=broker_url_for(request), root=context_of(request).settings.root))


def broker_url_for(request: Request) -> str:
    """Return where the broker is, as seen from where a worker asks."""
    settings = context_of(request).settings
    return settings.public_broker_url or _seen_from_outside(settings.broker_url, request.url.hostname)


def _seen_from_outside(broker_url: str, asked_as: str | None) -> str:
    """Put the name by which the worker reached the hub in place of a loopback name, which is the hub's own."""
    parts = urlsplit(broker_url)
    if parts.hostname not in _LOOPBACK or not asked_as:
        return broker_url
    host = f"[{asked_as}]" if ":" in asked_as else asked_as
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host))


def _ping(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


def _said(connected: bool) -> str:  # noqa: FBT001
    return "connected" if connected else "not connected"


routes = [
    Route("/health", get_health, methods=["GET"]),
    Route("/api/bootstrap", get_bootstrap, methods=["GET"]),
]
