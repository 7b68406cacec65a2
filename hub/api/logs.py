"""`GET /api/tasks/{id}/log`: what a task has written, read from its worker as it is sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from broker.errors import InvalidInput
from broker.log import get_logger
from broker.problems import Problem
from hub.api import log_source
from hub.api.answers import ProblemDocument, query_of
from hub.api.context import context_of
from hub.api.log_source import LogQuery
from hub.errors import LogNotKept, LogNotRead, NoAnswer, WorkerAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request
    from starlette.types import Send

log = get_logger(__name__)


async def get_log(request: Request) -> Response:
    """Send an attempt's log as its worker has it: all, from `offset`, or the last `tail_bytes`; and what comes."""
    context, query = context_of(request), query_of(request, LogQuery)
    if query.offset is not None and query.tail_bytes is not None:
        raise InvalidInput([Problem("query.tail_bytes", str(query.tail_bytes), "either offset or tail_bytes")])
    try:
        source, part = await log_source.begin(context, request.path_params["id"], query)
    except (WorkerAway, NoAnswer, LogNotRead, LogNotKept) as error:
        return _problem(error)
    headers = {
        "X-Log-Worker": source.worker.id,
        "X-Log-Attempt": str(source.attempt.number),
        "X-Log-Offset": str(part.offset),
        "X-Log-First": str(part.first),
        "X-Log-Size": str(part.size),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type="text/plain")
    return _Log(log_source.parts(source, part, follow=query.follow), headers)


class _Log(StreamingResponse):
    """A log as it comes. Where it cannot be sent to its end, the connection breaks: what came was not the whole."""

    media_type = "text/plain"

    def __init__(self, content: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(content, headers=headers)

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except (WorkerAway, NoAnswer, LogNotRead) as error:
            log.warning("log_not_sent_whole", reason=str(error))


def _problem(error: WorkerAway | NoAnswer | LogNotRead | LogNotKept) -> Response:
    match error:
        case WorkerAway():
            status, title = HTTPStatus.SERVICE_UNAVAILABLE, "The worker that has the log is not there"
        case NoAnswer():
            status, title = HTTPStatus.GATEWAY_TIMEOUT, "The worker that has the log does not answer"
        case LogNotRead():
            status, title = HTTPStatus.BAD_GATEWAY, "The worker that has the log cannot read it"
        case LogNotKept():
            return ProblemDocument(HTTPStatus.NOT_FOUND, "There is no log", detail=str(error))
    return ProblemDocument(status, title, detail=str(error), more={"worker": error.worker})


routes = [Route("/api/tasks/{id}/log", get_log, methods=["GET"])]
