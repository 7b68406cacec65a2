"""The ASGI application: every route, and what errors look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from hub.api import (
    accounts,
    actions,
    audit,
    enrolment,
    gaps,
    health,
    link,
    logs,
    rejections,
    schedules,
    tasks,
    tokens,
    workers,
)
from hub.api.answers import ERROR_HANDLERS, on_error, on_http_error
from hub.api.guard import AsJudged, Guard
from hub.rules.roles import unlisted

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from hub.api.context import Context

ROUTES = [
    *health.routes,
    *tasks.routes,
    *actions.routes,
    *logs.routes,
    *workers.routes,
    *schedules.routes,
    *rejections.routes,
    *gaps.routes,
    *link.routes,
    *enrolment.routes,
    *accounts.routes,
    *tokens.routes,
    *audit.routes,
]


def make_app(context: Context) -> ASGIApp:
    """Return the application that looks into `context`, behind its guard.

    Raises:
        LookupError: If nothing says what a route needs.

    """
    if forgotten := unlisted((route.path, route.methods or ()) for route in ROUTES):
        raise LookupError(f"no row of hub.rules.roles says who may {', '.join(forgotten)}")
    app = Starlette(
        routes=[_as_judged(route) for route in ROUTES],
        exception_handlers={**ERROR_HANDLERS, HTTPException: on_http_error, Exception: on_error},
    )
    app.state.context = context
    return Guard(app, context.access)


def _as_judged(route: Route) -> Route:
    own = [Middleware(AsJudged, route=route.path)]
    return Route(route.path, route.endpoint, methods=sorted(route.methods or ()), middleware=own)
