"""`/api/rejections`: input that was refused, by whom and why."""

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


class RejectionQuery(Paged):
    """What `GET /api/rejections` takes."""

    site: str | None = None


async def list_rejections(request: Request) -> Response:
    """List refused inputs, newest first."""
    query = query_of(request, RejectionQuery)
    read = partial(queries.list_rejections, site=query.site, limit=query.limit, cursor=query.cursor)
    page = await context_of(request).read(read)
    return listed([_shape(row) for row in page.items], page.next)


def _shape(row: Any) -> dict[str, object]:  # noqa: ANN401  a database row
    return {
        "at": rfc3339(row.at_ms),
        "topic": row.topic,
        "site": row.site,
        "reported_by": row.reported_by,
        "task": row.task,
        "reason": row.reason,
        "problems": from_json(row.problems),
        "payload": row.payload,
    }


routes = [Route("/api/rejections", list_rejections, methods=["GET"])]
