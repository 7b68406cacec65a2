"""Asks the hub by HTTP: one request at a time, on a connection that is kept.

The standard library's client in a thread: httpx would cost an idle agent 12 MB.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from broker import trouble
from broker.account import tls_context
from broker.errors import LinkDown, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult

    from broker.account import Account

CONNECT_TIMEOUT_SECONDS = 5.0
SILENCE_TIMEOUT_SECONDS = 20.0
"""How long the hub may be silent: it answers after its commit."""

ANSWER_TIMEOUT_SECONDS = 60.0
"""How long a request may take from beginning to end, however slowly the link carries it."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""What a hub delivers at once, 2 MiB or one letter, with room for how JSON in JSON grows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `date` is when, by the server's clock, as it says it (RFC 9110, §6.6.1)."""

    status: int
    body: bytes
    date: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]


class HttpClient:
    """A client of one server. A proxy that the environment names (`https_proxy`, `no_proxy`) is used.

    Args:
        url: `http://` or `https://`, a host, and maybe a port and a path that all others are under.
        account: Certificates: its authority is trusted beside the system's.
        shows_account: Show the account's name and password as well. That is for the link, and for nothing else.
        verifies: Believe that the server is who it says only if an authority vouches for it. Without, nothing secret
            may be sent, and nothing that comes may be believed that cannot be verified by itself.

    """

    def __init__(self, url: str, account: Account, *, shows_account: bool = False, verifies: bool = True) -> None:
        self.url = url
        self._account = account
        self._verifies = verifies
        self._shown = account.basic if shows_account else {}
        self._channel: _Channel | None = None

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request and return its answer, whatever its status. Raises `LinkDown` if there is none.

        A request whose kept connection turns out to be closed is sent again: it may arrive twice.
        """
        channel = self._channel = self._channel or _Channel(urlsplit(self.url), self._tls)
        done = False
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                answer = await asyncio.to_thread(channel.ask, _Request(method, path, body, self._shown))
            done = True
        except TimeoutError:
            raise LinkDown(self.url, "no answer in time") from None
        except (OSError, HTTPException, ValueError) as error:
            why = self._why(error, channel)
            raise LinkDown(self.url, why.reason, why.remedy) from error
        finally:
            if not done:
                self.close()
        return answer

    def _tls(self) -> ssl.SSLContext:
        if self._verifies:
            return tls_context(self._account, and_system=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def _why(self, error: Exception, channel: _Channel) -> Trouble:
        host, port, secure = channel.first_hop
        account = self._account
        peer = trouble.Peer(host=host, port=port, secure=secure, ca=account.authority, prefix=account.prefix)
        return trouble.of_connecting(error, peer)

    def close(self) -> None:
        """End the connection, and with it a request that is under way."""
        if self._channel:
            self._channel.cut()
        self._channel = None


class _Channel:
    """One connection. A thread asks; `cut` may come from another, and ends what the first waits for."""

    def __init__(self, parts: SplitResult, tls: Callable[[], ssl.SSLContext]) -> None:
        self._parts = parts
        self._tls = tls
        self._connection: HTTPConnection | None = None
        self._route: _Route | None = None
        self._asking = threading.Lock()
        self._is_cut = False

    @property
    def first_hop(self) -> tuple[str, int, bool]:
        """The host and the port that are connected to, a proxy's where there is one, and whether by TLS."""
        route = self._route or _Route.to(self._parts)
        return *route.first_hop, self._parts.scheme == "https"

    def ask(self, request: _Request) -> Answer:
        try:
            with self._asking:
                return self._ask(request)
        finally:
            if self._is_cut:  # looked at after the lock was given back: either this or `cut` closes
                self._close()

    def cut(self) -> None:
        self._is_cut = True
        sock = self._connection.sock if self._connection else None
        if sock:
            with contextlib.suppress(OSError):  # it may be down already
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own would wait for the other thread's turn
        if self._asking.acquire(blocking=False):
            self._close()
            self._asking.release()

    def _ask(self, request: _Request) -> Answer:
        route = self._route = self._route or _Route.to(self._parts)
        connection = self._connection = self._connection or route.open(self._tls)
        kept = connection.sock is not None
        try:
            return self._ask_once(connection, route, request)
        except TimeoutError:
            raise
        except OSError:
            connection.close()
            if not kept:
                raise
        return self._ask_once(connection, route, request)  # servers close what is idle; ours after 5 s

    def _ask_once(self, connection: HTTPConnection, route: _Route, request: _Request) -> Answer:
        if connection.sock is None:
            _connect(connection)
        if self._is_cut:
            raise ConnectionAbortedError("the request was given up")
        headers = {"Content-Type": "application/json", **request.headers, **route.headers}
        connection.request(request.method, route.target(request.path), request.body, headers)
        with connection.getresponse() as response:
            read = response.read(MAX_ANSWER_BYTES + 1)
        if len(read) > MAX_ANSWER_BYTES:
            raise HTTPException(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if response.length:
            raise HTTPException("the answer broke off")
        return Answer(response.status, read, response.getheader("Date"))

    def _close(self) -> None:
        if self._connection:
            self._connection.close()


def _connect(connection: HTTPConnection) -> None:
    connection.connect()
    connection.sock.settimeout(SILENCE_TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class _Route:
    """How to get to a server: straight, through a proxy that asks for us (http), or through its tunnel (https)."""

    to_parts: SplitResult
    proxy: SplitResult | None
    headers: Mapping[str, str]

    @classmethod
    def to(cls, parts: SplitResult) -> _Route:
        named = getproxies().get(parts.scheme)
        if not named or not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
            return cls(parts, None, {})
        proxy = urlsplit(named if "//" in named else f"//{named}")
        asks_for_us = parts.scheme == "http"
        return cls(parts, proxy, _proxy_account(proxy) if asks_for_us else {})

    def open(self, tls: Callable[[], ssl.SSLContext]) -> HTTPConnection:
        parts, proxy = self.to_parts, self.proxy
        first, first_port = self.first_hop
        if parts.scheme == "http":
            return HTTPConnection(first, first_port, timeout=CONNECT_TIMEOUT_SECONDS)
        connection = HTTPSConnection(first, first_port, timeout=CONNECT_TIMEOUT_SECONDS, context=tls())
        if proxy:
            connection.set_tunnel(*_host_of(parts), dict(_proxy_account(proxy)))
        return connection

    @property
    def first_hop(self) -> tuple[str, int]:
        """What is connected to: the proxy, if there is one."""
        return (self.proxy.hostname or "", self.proxy.port or 80) if self.proxy else _host_of(self.to_parts)

    def target(self, path: str) -> str:
        asked = f"{self.to_parts.path}{path}"
        asks_for_us = self.proxy and self.to_parts.scheme == "http"
        return f"http://{self.to_parts.netloc.rpartition('@')[2]}{asked}" if asks_for_us else asked


def _host_of(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _proxy_account(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    account = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"}
