"""`/api/link`: where MQTT is blocked, workers post here what they would publish, and get what they would be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from broker.messages import Exchange
from hub.api.answers import JSON, model_of
from hub.api.context import context_of
from hub.api.guard import caller_of
from hub.errors import AccountGone, NotYours
from hub.rules.denials import forbidden
from hub.rules.roles import Needs

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_EXCHANGE_BYTES = 8 * 1024 * 1024
"""A window of batches, each with the largest result, as JSON within JSON."""


async def post_exchange(request: Request) -> Response:
    """Handle what a worker has posted, and answer with what there is for it, when all of that is committed."""
    posted = await model_of(request, Exchange, MAX_EXCHANGE_BYTES)
    _refuse_others(request, posted)
    return JSON(await context_of(request).gateway.exchange(posted))


def _refuse_others(request: Request, posted: Exchange) -> None:
    """Let who has an account speak for its own worker alone, and no longer than it has it: a body may take its time.

    Raises:
        NotYours: If it speaks for another. That is in the audit trail then.
        AccountGone: If it has it no more.

    """
    caller = caller_of(request)
    account = caller.account
    if account is None:
        return  # the guard has seen to it that it takes none
    if not context_of(request).accounts.is_current(account):
        raise AccountGone(account)
    if (account.name, account.site) == (posted.worker, posted.site):
        return
    denial = forbidden(caller, "an exchange of another worker, or of another site, than the account's")
    context_of(request).access.note(denial, f"{posted.worker} at {posted.site}", Needs.ACCOUNT)
    raise NotYours(account, posted.worker, posted.site)


routes = [Route("/api/link", post_exchange, methods=["POST"])]
