"""`/api/link`: where MQTT is blocked, workers post here what they would publish, and get what they would be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.routing import Route

from broker.errors import InvalidInput
from broker.messages import Exchange
from broker.problems import explain
from hub.api.answers import JSON, body_of
from hub.api.context import context_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_EXCHANGE_BYTES = 8 * 1024 * 1024
"""A window of batches, each with the largest result, as JSON within JSON."""


async def post_exchange(request: Request) -> Response:
    """Handle what a worker has posted, and answer with what there is for it, when all of that is committed."""
    body = await body_of(request, MAX_EXCHANGE_BYTES)
    try:
        posted = Exchange.model_validate_json(body)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None
    return JSON(await context_of(request).gateway.exchange(posted))


routes = [Route("/api/link", post_exchange, methods=["POST"])]
