"""`/api/gaps`: what workers had to drop, what nobody could read, and what never arrived."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from starlette.routing import Route

from hub.api.answers import Paged, listed, query_of, rfc3339
from hub.api.context import context_of
from hub.store import queries

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class GapQuery(Paged):
    """What `GET /api/gaps` takes."""

    worker: str | None = None


async def get_gaps(request: Request) -> Response:
    """List gaps, newest first."""
    query = query_of(request, GapQuery)
    read = partial(queries.list_gaps, worker=query.worker, limit=query.limit, cursor=query.cursor)
    page = await context_of(request).read(read)
    return listed([_shape(row) for row in page.items], page.next)


def _shape(row: Any) -> dict[str, object]:  # noqa: ANN401  a database row
    gap = from_json(row.body)
    return {
        "worker": row.worker,
        "site": row.site,
        "at": rfc3339(row.at_ms),
        "dropped": gap["dropped"],
        "count": gap.get("count"),
        "first_at": rfc3339(gap.get("first_at")),
        "last_at": rfc3339(gap.get("last_at")),
        "reason": gap["reason"],
        "error_ms": gap.get("error_ms"),
    }


routes = [Route("/api/gaps", get_gaps, methods=["GET"])]
