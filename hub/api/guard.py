"""Stands before the application: no request gets past it that was not judged, and no answer that has no headers."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from starlette.exceptions import HTTPException

from hub.access import Asked
from hub.api.answers import ProblemDocument
from hub.api.headers import guarded
from hub.rules.callers import ANYBODY, Caller
from hub.rules.denials import Denial
from hub.rules.origins import Told
from hub.rules.roles import needs_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from hub.access import Access

_CALLER = "holdfast.caller"
_ROUTE = "holdfast.route"


class Guard:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with who asks, or refuse it."""
        if scope["type"] != "http":  # lifespan; the server speaks no WebSocket
            await self._app(scope, receive, send)
            return
        send = guarded(send, scope)
        route, needs = needs_of(scope["method"], scope["path"])
        judged = self._access.judge(_asked(scope), route, needs)
        if isinstance(judged, Denial):
            await _document(judged)(scope, receive, send)
            return
        scope[_CALLER], scope[_ROUTE] = judged, route
        await self._app(scope, receive, send)


class AsJudged:
    """ASGI middleware of one route: serves it to no request that was judged as one for another.

    Starlette and the table of what each route needs match paths each in its own way: to Starlette, `/api/audit%0A` is
    `/api/audit`. Where they do not agree, there is nothing.
    """

    def __init__(self, app: ASGIApp, route: str) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the route, or answer that there is none."""
        if scope.get(_ROUTE) != self._route:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        await self._app(scope, receive, send)


def caller_of(request: Request) -> Caller:
    """Return who asks."""
    return cast("Caller", request.scope.get(_CALLER, ANYBODY))


def _asked(scope: Scope) -> Asked:
    headers = {name: value for name, value in scope["headers"] if name in _LOOKED_AT}
    client = scope.get("client")
    return Asked(
        scope["method"],
        client[0] if client else None,
        headers.get(b"authorization"),
        Told(headers.get(b"host"), headers.get(b"origin"), headers.get(b"sec-fetch-site")),
    )


_LOOKED_AT = frozenset({b"authorization", b"host", b"origin", b"sec-fetch-site"})


def _document(denial: Denial) -> ProblemDocument:
    return ProblemDocument(denial.status, denial.title, detail=denial.detail, headers=denial.headers, more=denial.more)
