"""`http` `{method?, url, headers?, body?, follow_redirects?, expect?}`: a request as a task, for checks and webhooks.

It is offered where the worker has `network_access`, and asks what `WORKER_ALLOW_URLS` allows. The result is `{status,
headers, body, truncated, elapsed_ms}`, and `url` where a redirect was followed. A task whose expectations are not met
has failed, with the same result.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import to_json

from broker.errors import InvalidInput
from broker.messages.base import Json
from broker.problems import Problem, shown
from edge_agent.errors import TaskFailed
from edge_agent.executors.base import BuiltIn, Params
from edge_agent.rules.expectations import Expect, unmet
from edge_agent.rules.urls import Url, is_allowed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from broker.messages import Requirement
    from edge_agent.context import TaskContext
    from edge_agent.executors.requester import Requester
    from edge_agent.rules.expectations import HttpAnswer
    from edge_agent.rules.urls import UrlPattern

DEFAULT_TIMEOUT_SECONDS = 30.0
"""How long an answer may take where the task has no time limit of its own."""

BODY_BYTES = 64 * 1024
"""How much of a body a result holds: its beginning."""

MAX_BODY_JSON_BYTES = 128 * 1024
"""How long that may be as JSON, where a byte that is no text takes six: a result has a limit of its own."""

HEADERS_CHARACTERS = 16 * 1024
"""How much of an answer's headers a result holds."""

SECRET_HEADERS = frozenset({"set-cookie", "set-cookie2", "proxy-authenticate"})
"""Headers of an answer that no result shows: a cookie is as good as a password."""

OURS = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are the connection's own, or that would make a request another than the policy has judged."""


_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")  # RFC 9110, §5.6.2
_LINE = re.compile(r"([!-~]([\t -~]*[!-~])?)?")


def _url(text: str) -> str:
    try:
        Url.parse(text)
    except InvalidInput as error:
        raise ValueError(error.problems[0].expected) from None
    return text


def _one_line(text: str) -> str:
    if not _LINE.fullmatch(text):
        msg = "printable ASCII in one line"  # so that nothing is injected
        raise ValueError(msg)
    return text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    names = [name.lower() for name in headers]
    for name in headers:
        if not _NAME.fullmatch(name):
            msg = f"names of headers: {shown(name)} is none"
            raise ValueError(msg)
        if name.lower() in OURS:
            msg = f"no {name}, which is set by who sends the request"
            raise ValueError(msg)
        if names.count(name.lower()) > 1:
            msg = f"{name} once"
            raise ValueError(msg)
    return headers


Body = Annotated[Json, "a text, or what is sent as JSON"]
HeaderValue = Annotated[str, AfterValidator(_one_line)]


class HttpParams(Params):
    """What to ask, and what to expect.

    Attributes:
        body: A text is sent as it is; any other JSON as JSON.
        follow_redirects: Whether the answer is that of where a redirect leads. If not, the redirect is the answer.

    """

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    url: Annotated[str, AfterValidator(_url)]
    headers: Annotated[dict[str, HeaderValue], AfterValidator(_headers)] = Field(default={}, max_length=64)
    body: Body = None
    follow_redirects: bool = False
    expect: Expect = Expect()


class Http(BuiltIn[HttpParams]):
    """Asks what a pattern allows; None are no patterns, and allow all.

    Args:
        patterns: WORKER_ALLOW_URLS.
        ca: WORKER_HTTP_CA, an authority that is trusted beside the system's.

    """

    kind = "http"
    model = HttpParams
    requires: Mapping[str, Requirement] = {"network_access": True}

    def __init__(self, patterns: Sequence[UrlPattern] | None = None, *, ca: Path | None = None) -> None:
        self._patterns = patterns
        self._ca = ca
        self._requester: Requester | None = None

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
        """Return what the model says is wrong, without repeating what may be a secret."""
        return [_discreet(problem) for problem in super().problems(params)]

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:
        """Refuse what no pattern allows."""
        return self._refused(Url.parse(self.model.model_validate(params).url))

    async def execute(self, params: HttpParams, context: TaskContext) -> JsonValue:
        """Send the request, look at the answer, and return it."""
        refused = self._refused(Url.parse(params.url))  # an earlier run of the agent may have let it in
        if refused:
            raise TaskFailed(refused)
        requester = await self._get_requester()
        limit = None if context.timeout_seconds else DEFAULT_TIMEOUT_SECONDS
        try:
            async with asyncio.timeout(limit):
                answer = await requester.ask(
                    params.method,
                    params.url,
                    headers=_sent_headers(params),
                    body=_sent_body(params.body),
                    may_follow=self._refused if params.follow_redirects else None,
                )
        except TimeoutError:
            raise TaskFailed(f"no answer within {limit or 0:g} s") from None
        result = _result(answer)
        missed = unmet(params.expect, answer)
        if missed:
            raise TaskFailed("; ".join(missed), result)
        return result

    def _refused(self, url: Url) -> str | None:
        if is_allowed(url, self._patterns):
            return None
        return f"WORKER_ALLOW_URLS does not allow '{str(url)[:200]}'"

    async def _get_requester(self) -> Requester:
        if self._requester is None:  # by thread: on a small board it takes a second, and the keepalive must not wait
            self._requester = await asyncio.to_thread(_make_requester, self._ca)
        return self._requester


def _make_requester(ca: Path | None) -> Requester:
    requester: Requester = importlib.import_module("edge_agent.executors.requester").Requester(ca)
    return requester


def _discreet(problem: Problem) -> Problem:
    """Hide what may be a secret: a URL, a header, a body, and whatever stands where no field is."""
    is_told = problem.field.startswith(("params.method", "params.expect"))
    is_secret = not is_told and problem.value[:1] in {'"', "{", "["}
    return Problem(problem.field, "…", problem.expected) if is_secret else problem


def _sent_headers(params: HttpParams) -> dict[str, str]:
    if params.body is None or any(name.lower() == "content-type" for name in params.headers):
        return params.headers
    is_text = isinstance(params.body, str)
    return {"Content-Type": "text/plain; charset=utf-8" if is_text else "application/json", **params.headers}


def _sent_body(body: JsonValue) -> bytes | None:
    if body is None:
        return None
    return body.encode() if isinstance(body, str) else to_json(body)


def _result(answer: HttpAnswer) -> dict[str, Any]:
    body = whole = answer.first(BODY_BYTES)
    while len(to_json(body)) > MAX_BODY_JSON_BYTES:
        body = body[: len(body) // 2]
    where = {"url": answer.url} if answer.url else {}
    return {
        "status": answer.status,
        **where,
        "headers": _shown_headers(answer.headers),
        "body": body,
        "truncated": not answer.is_whole or len(answer.body) > BODY_BYTES or len(body) < len(whole),
        "elapsed_ms": answer.elapsed_ms,
    }


def _shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    shown, room = {}, HEADERS_CHARACTERS
    for name, value in headers.items():
        room -= len(name) + len(value)
        if name.lower() not in SECRET_HEADERS and room >= 0:
            shown[name.lower()] = value
    return shown
