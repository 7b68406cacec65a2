"""What every resource answers with: JSON, lists, times, and RFC 9457 problem documents."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from broker.errors import InvalidInput
from broker.log import get_logger
from broker.problems import Problem, explain, shown
from hub.errors import AccountGone, ClashingId, LedgerClosed, NotFound, NotPossible, NotYours, TooLarge, UnknownLink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.exceptions import HTTPException
    from starlette.requests import Request

MAX_PAGE = 500
DEFAULT_PAGE = 50
MAX_KEY = 2**63 - 1
"""The largest key that a database holds."""

log = get_logger(__name__)


class JSON(Response):
    """A JSON answer."""

    media_type = "application/json"

    def __init__(self, content: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(to_json(content) + b"\n", status, headers)


class ProblemDocument(Response):
    """An error as RFC 9457 has it; `problems` name each field and value, `more` are members of this type of error."""

    media_type = "application/problem+json"

    def __init__(
        self,
        status: int,
        title: str,
        problems: Sequence[Problem] = (),
        *,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        body = {
            "type": "about:blank",
            "title": title,
            "status": int(status),
            "detail": detail or "; ".join(str(problem) for problem in problems),
            "problems": [problem.as_dict() for problem in problems],
            **(more or {}),
        }
        super().__init__(to_json(body) + b"\n", status, headers)


class Query(BaseModel):
    """The base of each list's query parameters: texts are read as numbers where numbers are meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paged(Query):
    """What every list takes."""

    limit: int = Field(default=DEFAULT_PAGE, ge=1, le=MAX_PAGE)
    cursor: int | None = Field(default=None, ge=1, le=MAX_KEY)


QueryType = TypeVar("QueryType", bound=Query)
ModelType = TypeVar("ModelType", bound=BaseModel)


def query_of(request: Request, kind: type[QueryType]) -> QueryType:
    """Return the query parameters of `request`. Raises `InvalidInput`, which names the parameter."""
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise InvalidInput(explain(error, root="query")) from None


async def body_of(request: Request, limit: int) -> bytes:
    """Read the body, but never more of it than `limit` bytes. Raises `TooLarge`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(limit)
    return bytes(body)


async def model_of(request: Request, kind: type[ModelType], limit: int) -> ModelType:
    """Return the body, of at most `limit` bytes, as the model says. Raises `InvalidInput`, which names the field."""
    body = await body_of(request, limit)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None


def listed(items: list[dict[str, object]], following: int | None) -> JSON:
    """Return a page of a list."""
    return JSON({"items": items, "next": following})


def rfc3339(at_ms: int | None) -> str | None:
    """Return a time as RFC 3339 with milliseconds, in UTC."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def on_invalid_input(_request: Request, error: Exception) -> Response:
    """Answer input that a model refused."""
    problems = error.problems if isinstance(error, InvalidInput) else ()
    if isinstance(error, TooLarge):
        return ProblemDocument(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large", problems)
    return ProblemDocument(HTTPStatus.UNPROCESSABLE_ENTITY, "The input is not valid", problems)


async def on_not_found(_request: Request, error: Exception) -> Response:
    """Answer a request for what is not there."""
    problems = [Problem(error.field, shown(error.value), "one that exists")] if isinstance(error, NotFound) else []
    return ProblemDocument(HTTPStatus.NOT_FOUND, "There is no such thing", problems)


async def on_clash(_request: Request, error: Exception) -> Response:
    """Answer a task whose id is another's."""
    problems = (
        [Problem("id", shown(error.task_id), "an id that no other task has")] if isinstance(error, ClashingId) else []
    )
    return ProblemDocument(HTTPStatus.CONFLICT, "The id is another task's", problems)


async def on_unknown_link(_request: Request, error: Exception) -> Response:
    """Answer a post on a link by HTTP that is no more."""
    problems = (
        [Problem("link", shown(error.link), "one that lives; begin another")] if isinstance(error, UnknownLink) else []
    )
    return ProblemDocument(HTTPStatus.GONE, "The link has ended", problems)


async def on_not_possible(_request: Request, error: Exception) -> Response:
    """Answer what the state of a task does not allow: with how it stands, and what is possible."""
    if not isinstance(error, NotPossible):
        raise error
    return ProblemDocument(
        HTTPStatus.CONFLICT,
        "The task's state does not allow that",
        [error.problem],
        detail=str(error),
        more={"state": error.state, "possible": error.possible},
    )


async def on_closing(_request: Request, _error: Exception) -> Response:
    """Answer while the hub stops: nothing was committed."""
    return ProblemDocument(
        HTTPStatus.SERVICE_UNAVAILABLE, "The hub is stopping", detail="nothing was committed; try again"
    )


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Answer what Starlette refuses: no such route, no such method."""
    return _http_problem(error)  # type: ignore[arg-type]


async def on_error(request: Request, error: Exception) -> Response:
    """Answer an error of our own, without showing its inside."""
    log.error("request_failed", method=request.method, path=request.url.path, error=repr(error))
    return ProblemDocument(HTTPStatus.INTERNAL_SERVER_ERROR, "The hub failed", detail="see the hub's log")


def _http_problem(error: HTTPException) -> Response:
    title, detail = HTTPStatus(error.status_code).phrase, str(error.detail)
    return ProblemDocument(error.status_code, title, detail=detail, headers=error.headers)  # such as Allow


async def on_not_yours(_request: Request, error: Exception) -> Response:
    """Answer a worker that speaks for another one, or for another site than its account's."""
    return ProblemDocument(HTTPStatus.FORBIDDEN, "Not your account's", detail=str(error))


async def on_account_gone(_request: Request, error: Exception) -> Response:
    """Answer a worker whose account went while it was still posting: as to any that has none."""
    headers = {"WWW-Authenticate": 'Basic realm="holdfast", charset="UTF-8"'}
    return ProblemDocument(HTTPStatus.UNAUTHORIZED, "Not signed in", detail=str(error), headers=headers)


ERROR_HANDLERS = {
    InvalidInput: on_invalid_input,
    NotFound: on_not_found,
    ClashingId: on_clash,
    NotPossible: on_not_possible,
    UnknownLink: on_unknown_link,
    NotYours: on_not_yours,
    AccountGone: on_account_gone,
    LedgerClosed: on_closing,
}
