"""`/api/tokens`: makes and revokes what people and programs show to use this API. For admins."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from broker.clock import wall_ms
from broker.messages import MAX_MESSAGE_BYTES
from hub.api.answers import JSON, Query, listed, model_of, query_of, rfc3339
from hub.api.context import context_of
from hub.api.guard import caller_of
from hub.rules.tokens import TokenRequest

if TYPE_CHECKING:
    from starlette.requests import Request

    from hub.rules.tokens import ApiToken


async def list_tokens(request: Request) -> Response:
    """List every token that was ever made, newest first; of none is the secret kept."""
    query_of(request, Query)
    return listed([token_shape(one, wall_ms()) for one in reversed(context_of(request).tokens.all())], None)


async def post_token(request: Request) -> Response:
    """Make a token, and tell it this once; answer after the commit."""
    asked = await model_of(request, TokenRequest, MAX_MESSAGE_BYTES)
    one, text = await context_of(request).tokens.make(asked, caller_of(request))
    return JSON({**token_shape(one, wall_ms()), "token": text}, HTTPStatus.CREATED)


async def delete_token(request: Request) -> Response:
    """Let a token hold no more, by its id or its name; from this answer on it does not."""
    await context_of(request).tokens.revoke(request.path_params["id"], caller_of(request))
    return Response(status_code=HTTPStatus.NO_CONTENT)


def token_shape(one: ApiToken, now_ms: int) -> dict[str, object]:
    """Return a token as it is shown."""
    return {
        "id": one.id,
        "name": one.name,
        "role": one.role,
        "state": one.flaw(now_ms) or "valid",
        "created_at": rfc3339(one.created_ms),
        "expires_at": rfc3339(one.expires_ms),
        "last_used_at": rfc3339(one.last_used_ms),
        "revoked_at": rfc3339(one.revoked_ms),
    }


routes = [
    Route("/api/tokens", list_tokens, methods=["GET"]),
    Route("/api/tokens", post_token, methods=["POST"]),
    Route("/api/tokens/{id}", delete_token, methods=["DELETE"]),
]
