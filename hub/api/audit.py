"""`/api/audit`: who did what, and who was refused. For admins."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime  # noqa: TC002  a model reads its annotations when it runs
from starlette.routing import Route

from hub.api.answers import Paged, listed, query_of, rfc3339
from hub.api.context import context_of
from hub.rules.audit import Outcome  # noqa: TC001
from hub.store.audit import AuditFilter, list_audit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class AuditQuery(Paged):
    """What `GET /api/audit` takes; `action` is one, or the word before its dot."""

    who: str | None = None
    action: str | None = None
    outcome: Outcome | None = None
    since: AwareDatetime | None = None


async def get_audit(request: Request) -> Response:
    """List what was done and refused, newest first."""
    query = query_of(request, AuditQuery)
    since_ms = int(query.since.timestamp() * 1000) if query.since else None
    wanted = AuditFilter(query.who, query.action, query.outcome, since_ms)
    page = await context_of(request).read(partial(list_audit, wanted=wanted, limit=query.limit, cursor=query.cursor))
    return listed([audit_shape(row) for row in page.items], page.next)


def audit_shape(row: Any) -> dict[str, object]:  # noqa: ANN401  a database row
    """Return a line as it is shown."""
    return {
        "at": rfc3339(row.at_ms),
        "who": row.who,
        "role": row.role,
        "address": row.address,
        "action": row.action,
        "target": row.target,
        "outcome": row.outcome,
        "detail": row.detail,
    }


routes = [Route("/api/audit", get_audit, methods=["GET"])]
