"""Sends one HTTP request and reads its answer, in bounded memory: the only module of the agent that imports httpx.

It is imported when the first `http` task runs, since httpx would cost an idle agent several MB.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import sys
from typing import TYPE_CHECKING

from broker import __version__
from broker.errors import InvalidInput
from edge_agent.errors import TaskFailed
from edge_agent.rules.expectations import HttpAnswer
from edge_agent.rules.urls import PORTS, Url

# httpx loads click, rich and pygments where they are installed, for a command line that we do not show: see broker.log.
_COMMAND_LINE = "httpx._main"
_hidden = _COMMAND_LINE not in sys.modules
if _hidden:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]
try:
    import httpx
finally:
    if _hidden:
        del sys.modules[_COMMAND_LINE]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

CONNECT_SECONDS = 10.0
"""How long it may take until somebody takes the connection, each time."""

MAX_READ_BYTES = 1024 * 1024
"""How much of a body is read, for expectations to look at."""

MAX_REDIRECTS = 5

_FOR_ANYBODY = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    }
)
"""What a redirect to another server takes along. A header of the task's own may be a key."""

_CHARSET = re.compile(r"charset=[\"']?([A-Za-z0-9._:-]+)", re.IGNORECASE)


class Requester:
    """Asks servers. Each request has connections, and no cookies, of its own.

    Args:
        ca: An authority that is trusted beside the system's.

    Raises:
        TaskFailed: If there is no certificate in `ca`.

    """

    def __init__(self, ca: Path | None) -> None:
        self._tls = ssl.create_default_context()
        if ca:
            try:
                self._tls.load_verify_locations(ca)
            except OSError as error:
                raise TaskFailed(f"WORKER_HTTP_CA is '{ca}': expected certificates in PEM ({error})") from error

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        may_follow: Callable[[Url], str | None] | None,
    ) -> HttpAnswer:
        """Send a request, and return its answer, whatever its status. Cancelled, it closes the connection.

        `may_follow` is asked before each redirect is followed, and returns why it is not; without it none is.

        Raises:
            TaskFailed: If no answer came.

        """
        ours = {"User-Agent": f"holdfast/{__version__}", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        async with httpx.AsyncClient(verify=self._tls, headers=ours, timeout=timeout) as client:
            request = client.build_request(method, url, headers=dict(headers), content=body)
            return await _answer(client, request, may_follow)


async def _answer(
    client: httpx.AsyncClient, request: httpx.Request, may_follow: Callable[[Url], str | None] | None
) -> HttpAnswer:
    began = asyncio.get_running_loop().time()
    followed: Url | None = None
    for _ in range(MAX_REDIRECTS + 1):
        try:
            response = await client.send(request, stream=True)
            try:
                if not (may_follow and response.next_request):
                    return await _read(response, began, followed)
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise TaskFailed(_why(error, request.url)) from error
        before, request = request.url, response.next_request
        followed = _next(request, may_follow)
        _keep_secrets_from_others(request, before)
    raise TaskFailed(f"it was redirected more than {MAX_REDIRECTS} times, at last to {followed}")


def _next(request: httpx.Request, may_follow: Callable[[Url], str | None]) -> Url:
    try:
        url = Url.parse(str(request.url))
    except InvalidInput:
        raise TaskFailed("it was redirected to what is no URL of http or https") from None
    if refusal := may_follow(url):
        raise TaskFailed(f"it was redirected: {refusal}")
    return url


def _keep_secrets_from_others(request: httpx.Request, before: httpx.URL) -> None:
    """Take along to another server only headers that are no secret: httpx knows of Authorization and Cookie alone."""
    url = request.url
    same = (url.scheme, url.host, url.port) == (before.scheme, before.host, before.port)
    secured = (url.scheme, url.host, url.port) == ("https", before.host, None) and before.port is None
    if not same and not secured:
        for name in set(request.headers) - _FOR_ANYBODY:
            del request.headers[name]


async def _read(response: httpx.Response, began: float, followed: Url | None) -> HttpAnswer:
    body, is_whole = bytearray(), True
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_READ_BYTES:
            del body[MAX_READ_BYTES:]
            is_whole = False
            break
    encoding = response.headers.get("content-encoding", "identity")
    charset = _CHARSET.search(response.headers.get("content-type", ""))
    return HttpAnswer(
        status=response.status_code,
        body=bytes(body),
        is_whole=is_whole,
        elapsed_ms=round((asyncio.get_running_loop().time() - began) * 1000),
        headers=dict(response.headers.items()),
        charset=charset[1] if charset else None,
        encoding=None if encoding == "identity" else encoding,
        url=str(followed) if followed else None,
    )


def _why(error: Exception, url: httpx.URL) -> str:
    """Say why there is no answer, in words that name the place and no secret."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    place = f"{host}:{url.port or PORTS.get(url.scheme)}"
    if isinstance(error, httpx.ConnectTimeout):
        return f"{place} has not taken the connection within {CONNECT_SECONDS:g} s"
    known = filter(None, (_why_not_reached(cause, url.host, place) for cause in _causes(error)))
    return next(known, None) or _why_not_answered(error, place)


def _why_not_reached(cause: BaseException, host: str, place: str) -> str | None:
    match cause:
        case ConnectionRefusedError():
            return f"{place} refuses the connection: nothing listens there"
        case socket.gaierror():
            return f"{host} has no address: {cause.strerror or cause}"
        case ssl.SSLCertVerificationError():
            own = "WORKER_HTTP_CA names an authority of your own"
            return f"the certificate of {place} is not trusted: {cause.verify_message}; {own}"
        case ssl.SSLError():
            return f"{place} does not speak TLS as we do: {cause.reason or cause}"
    return None


def _why_not_answered(error: Exception, place: str) -> str:
    match error:
        case httpx.TimeoutException():
            return f"{place} has gone silent"
        case httpx.ProtocolError():
            return f"what {place} answers is no HTTP: {error}"
        case httpx.NetworkError():
            return f"the connection to {place} broke off" + (f": {error}" if str(error) else "")
    return f"{place} could not be asked: {type(error).__name__}: {error}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it came of, and what those came of."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one)
        error = error.__cause__ or error.__context__
