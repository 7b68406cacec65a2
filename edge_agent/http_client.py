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
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from broker.errors import LinkDown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from broker.link import Account

CONNECT_TIMEOUT_SECONDS = 5.0
SILENCE_TIMEOUT_SECONDS = 20.0
"""How long the hub may be silent: it answers after its commit."""

ANSWER_TIMEOUT_SECONDS = 60.0
"""How long a request may take from beginning to end, however slowly the link carries it."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""What a hub delivers at once, 2 MiB or one letter, with room for how JSON in JSON grows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


class HttpClient:
    """A client of one server. A proxy that the environment names (`https_proxy`, `no_proxy`) is used.

    Args:
        url: `http://` or `https://`, a host, and maybe a port and a path that all others are under.
        account: Certificates: its authority is trusted beside the system's.

    """

    def __init__(self, url: str, account: Account) -> None:
        self.url = url
        self._account = account
        self._channel: _Channel | None = None

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request and return its answer, whatever its status. Raises `LinkDown` if there is none.

        A request whose kept connection turns out to be closed is sent again: it may arrive twice.
        """
        channel = self._channel = self._channel or _Channel(urlsplit(self.url), self._account)
        done = False
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                answer = await asyncio.to_thread(channel.ask, method, path, body)
            done = True
        except TimeoutError:
            raise LinkDown(self.url, "no answer in time") from None
        except (OSError, HTTPException, ValueError) as error:
            raise LinkDown(self.url, str(error) or type(error).__name__) from error
        finally:
            if not done:
                self.close()
        return answer

    def close(self) -> None:
        """End the connection, and with it a request that is under way."""
        if self._channel:
            self._channel.cut()
        self._channel = None


class _Channel:
    """One connection. A thread asks; `cut` may come from another, and ends what the first waits for."""

    def __init__(self, parts: SplitResult, account: Account) -> None:
        self._parts = parts
        self._account = account
        self._connection: HTTPConnection | None = None
        self._route: _Route | None = None
        self._asking = threading.Lock()
        self._is_cut = False

    def ask(self, method: str, path: str, body: bytes | None) -> Answer:
        try:
            with self._asking:
                return self._ask(method, path, body)
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

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        route = self._route = self._route or _Route.to(self._parts)
        connection = self._connection = self._connection or route.open(self._account)
        kept = connection.sock is not None
        try:
            return self._ask_once(connection, route, method, path, body)
        except TimeoutError:
            raise
        except OSError:
            connection.close()
            if not kept:
                raise
        return self._ask_once(connection, route, method, path, body)  # servers close what is idle; ours after 5 s

    def _ask_once(
        self, connection: HTTPConnection, route: _Route, method: str, path: str, body: bytes | None
    ) -> Answer:
        if connection.sock is None:
            _connect(connection)
        if self._is_cut:
            raise ConnectionAbortedError("the request was given up")
        connection.request(method, route.target(path), body, {"Content-Type": "application/json", **route.headers})
        with connection.getresponse() as response:
            read = response.read(MAX_ANSWER_BYTES + 1)
        if len(read) > MAX_ANSWER_BYTES:
            raise HTTPException(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if response.length:
            raise HTTPException("the answer broke off")
        return Answer(response.status, read)

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

    def open(self, account: Account) -> HTTPConnection:
        parts, proxy = self.to_parts, self.proxy
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        first, first_port = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
        if parts.scheme == "http":
            return HTTPConnection(first, first_port, timeout=CONNECT_TIMEOUT_SECONDS)
        connection = HTTPSConnection(first, first_port, timeout=CONNECT_TIMEOUT_SECONDS, context=_tls(account))
        if proxy:
            connection.set_tunnel(host, port, dict(_proxy_account(proxy)))
        return connection

    def target(self, path: str) -> str:
        asked = f"{self.to_parts.path}{path}"
        asks_for_us = self.proxy and self.to_parts.scheme == "http"
        return f"http://{self.to_parts.netloc.rpartition('@')[2]}{asked}" if asks_for_us else asked


def _proxy_account(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    account = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"}


def _tls(account: Account) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if account.tls_ca:
            context.load_verify_locations(account.tls_ca)
        if account.tls_certificate:
            context.load_cert_chain(account.tls_certificate, account.tls_key)
    except OSError as error:
        named = ", ".join(filter(None, (account.tls_ca, account.tls_certificate)))
        raise OSError(f"TLS with {named}: {error}") from error
    return context
