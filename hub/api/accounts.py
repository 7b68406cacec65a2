"""`/api/accounts`: who may use the broker, and whether the broker knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from hub.api.answers import JSON, Query, listed, query_of, rfc3339
from hub.api.context import context_of
from hub.api.guard import caller_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from hub.api.context import Context
    from hub.rules.access import Account


async def list_accounts(request: Request) -> Response:
    """List every account, revoked ones too, by name."""
    query_of(request, Query)
    context = context_of(request)
    return listed([_shape(one, context) for one in context.accounts.all()], None)


async def post_revoke(request: Request) -> Response:
    """Let an account do nothing any more: the broker throws off who uses it."""
    context = context_of(request)
    account = await context.enrolling.revoke_account(request.path_params["name"], caller_of(request))
    return JSON(_shape(account, context))


def _shape(one: Account, context: Context) -> dict[str, object]:
    return {**account_shape(one), "at_broker": context.keeper.is_at_broker(one)}


def account_shape(one: Account) -> dict[str, object]:
    """Return an account as it is shown."""
    return {
        "name": one.name,
        "kind": one.kind.value,
        "site": one.site,
        "generation": one.generation,
        "created_at": rfc3339(one.created_ms),
        "changed_at": rfc3339(one.changed_ms),
        "revoked_at": rfc3339(one.revoked_ms),
    }


routes = [
    Route("/api/accounts", list_accounts, methods=["GET"]),
    Route("/api/accounts/{name}/revoke", post_revoke, methods=["POST"]),
]
