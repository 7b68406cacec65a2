"""The ASGI application: every route, and what errors look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from hub.api import actions, gaps, health, link, logs, rejections, schedules, tasks, workers
from hub.api.answers import ERROR_HANDLERS, on_error, on_http_error

if TYPE_CHECKING:
    from hub.api.context import Context


def make_app(context: Context) -> Starlette:
    """Return the application that looks into `context`."""
    app = Starlette(
        routes=[
            *health.routes,
            *tasks.routes,
            *actions.routes,
            *logs.routes,
            *workers.routes,
            *schedules.routes,
            *rejections.routes,
            *gaps.routes,
            *link.routes,
        ],
        exception_handlers={**ERROR_HANDLERS, HTTPException: on_http_error, Exception: on_error},
    )
    app.state.context = context
    return app
