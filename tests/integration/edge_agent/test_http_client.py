"""One request after another on real sockets: connections that are kept and lost, TLS, proxies, time limits."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from broker.account import Account
from broker.errors import LinkDown
from broker.messages import Bootstrap, encode
from edge_agent import http_client
from edge_agent.bootstrap import ask
from edge_agent.http_client import Answer, HttpClient
from tests.support.tls_server import answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
PROMPT_SECONDS = 4.0


@dataclass
class Server:
    """Says `answer` to each request, and keeps what it was asked, by connection."""

    answer: bytes = OK
    close_after: int = 0
    connections: list[list[bytes]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    handlers: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def requests(self) -> list[bytes]:
        return [request for connection in self.connections for request in connection]

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests: list[bytes] = []
        self.connections.append(requests)
        try:
            while not self.close_after or len(requests) < self.close_after:
                requests.append(await read_request(reader))
                self.asked.set()
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has closed
        finally:
            await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the other side was faster
        await writer.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    named = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    length = next((int(value) for name, _, value in named if name == b"content-length"), 0)
    return head + await reader.readexactly(length)


@contextlib.asynccontextmanager
async def serving(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    listener = await asyncio.start_server(server.on_connection, "127.0.0.1", ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server
    await asyncio.gather(*server.handlers)  # the client's end is theirs


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.contextmanager
def client_of(server: Server, account: Account | None = None, scheme: str = "http") -> Iterator[HttpClient]:
    client = HttpClient(f"{scheme}://127.0.0.1:{server.port}", account or Account())
    try:
        yield client
    finally:
        client.close()


async def test_requests_share_a_connection_and_keep_their_order() -> None:
    async with serving(Server()) as server:
        with client_of(server) as client:
            for number in range(3):
                assert await client.ask("POST", f"/{number}", b"body") == Answer(200, b"hi")
    (requests,) = server.connections
    assert [request.split(b" ")[1] for request in requests] == [b"/0", b"/1", b"/2"]
    assert all(request.endswith(b"\r\n\r\nbody") for request in requests)


async def test_a_kept_connection_that_was_closed_is_made_anew() -> None:
    async with serving(Server(close_after=1)) as server:
        with client_of(server) as client:
            for _ in range(3):
                assert (await client.ask("GET", "/")).body == b"hi"
                await asyncio.sleep(0.02)  # its end has come: or it comes later, to the same effect
    assert len(server.connections) == 3


async def test_a_new_connection_that_is_closed_is_no_link() -> None:
    async with serving(Server(answer=b"", close_after=1)) as server:
        with client_of(server) as client, pytest.raises(LinkDown):
            await client.ask("GET", "/")
    assert len(server.connections) == 1


async def test_where_nobody_listens_there_is_no_link() -> None:
    with client_of(Server(port=1)) as client, pytest.raises(LinkDown, match="refused"):
        await client.ask("GET", "/")


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
async def test_what_is_no_whole_answer_is_no_link(answer: bytes) -> None:
    async with serving(Server(answer=answer, close_after=1)) as server:
        with client_of(server) as client, pytest.raises(LinkDown):
            await client.ask("GET", "/")


async def test_an_answer_that_is_too_large_is_no_link_and_the_next_is_asked_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_client, "MAX_ANSWER_BYTES", 1)
    async with serving(Server()) as server:
        with client_of(server) as client:
            with pytest.raises(LinkDown, match="more than 1 bytes"):
                await client.ask("GET", "/")
            monkeypatch.setattr(http_client, "MAX_ANSWER_BYTES", 2)
            assert (await client.ask("GET", "/")).body == b"hi"
    assert len(server.connections) == 2


@pytest.mark.parametrize("limit", ["SILENCE_TIMEOUT_SECONDS", "ANSWER_TIMEOUT_SECONDS"])
async def test_a_server_that_does_not_answer_is_given_up_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    async with serving(Server()) as server:
        with client_of(server) as client:
            await client.ask("GET", "/first")
            server.answer = b""
            monkeypatch.setattr(http_client, limit, 0.1)
            if limit == "SILENCE_TIMEOUT_SECONDS":
                client.close()
            with pytest.raises(LinkDown, match="no answer in time"):
                await client.ask("GET", "/second")
            server.answer = OK
            monkeypatch.setattr(http_client, limit, 10)
            assert (await client.ask("GET", "/third")).body == b"hi"
    assert [request.split(b" ")[1] for request in server.requests] == [b"/first", b"/second", b"/third"]


async def test_a_cancellation_ends_the_request_and_its_thread() -> None:
    async with serving(Server(answer=b"")) as server:
        with client_of(server) as client:
            asking = asyncio.ensure_future(client.ask("GET", "/"))
            await server.asked.wait()
            asking.cancel()
            async with asyncio.timeout(PROMPT_SECONDS):
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await asyncio.get_running_loop().shutdown_default_executor()  # waits for its threads


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two authorities that vouch for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        command = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=holdfast -addext subjectAltName=IP:127.0.0.1 "
            f"-keyout {folder}/{name}.key -out {folder}/{name}.crt"
        )
        subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    return folder


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "ca.crt", certificates / "ca.key")
    return context


async def test_https_trusts_the_authority_that_it_was_given(certificates: Path, tls: ssl.SSLContext) -> None:
    async with serving(Server(), tls) as server:
        with client_of(server, Account(tls_ca=str(certificates / "ca.crt")), "https") as client:
            for _ in range(2):
                assert (await client.ask("GET", "/")).body == b"hi"
    assert len(server.connections) == 1


async def test_the_hub_is_asked_for_the_broker_by_https(certificates: Path, tls: ssl.SSLContext) -> None:
    word = encode(Bootstrap(broker_url="mqtts://broker.example", root="edge"))
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(word)}\r\n\r\n".encode() + word
    async with serving(Server(answer=answer), tls) as server:
        found = await ask(f"https://127.0.0.1:{server.port}", Account(tls_ca=str(certificates / "ca.crt")))
    assert found.broker_url == "mqtts://broker.example"


@pytest.mark.parametrize("authority", ["other.crt", None])
async def test_a_hub_that_another_authority_vouches_for_is_refused(
    certificates: Path, tls: ssl.SSLContext, authority: str | None
) -> None:
    account = Account(tls_ca=str(certificates / authority) if authority else None)
    with (
        answering(tls, OK) as (port, asked),
        client_of(Server(port=port), account, "https") as client,
        pytest.raises(LinkDown, match="signed by nobody whom"),
    ):
        await client.ask("GET", "/")
    assert asked == []


async def test_an_authority_that_cannot_be_read_is_named() -> None:
    account = Account(tls_ca="/nowhere/ca.crt")
    with client_of(Server(), account, "https") as client, pytest.raises(LinkDown, match=r"TLS with /nowhere/ca\.crt: "):
        await client.ask("GET", "/")


async def test_a_cancellation_ends_a_request_by_https(certificates: Path, tls: ssl.SSLContext) -> None:
    async with serving(Server(answer=b""), tls) as server:
        with client_of(server, Account(tls_ca=str(certificates / "ca.crt")), "https") as client:
            asking = asyncio.ensure_future(client.ask("GET", "/"))
            await server.asked.wait()
            asking.cancel()
            async with asyncio.timeout(PROMPT_SECONDS):
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await asyncio.get_running_loop().shutdown_default_executor()


# -- proxies -----------------------------------------------------------------------------------------------------------


async def test_a_proxy_asks_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Server()) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:se%40cret@127.0.0.1:{proxy.port}")
        client = HttpClient("http://hub.invalid:8000/base", Account())
        assert (await client.ask("GET", "/api/bootstrap")).body == b"hi"
        client.close()
    (request,) = proxy.requests
    assert request.startswith(b"GET http://hub.invalid:8000/base/api/bootstrap HTTP/1.1\r\nHost: hub.invalid:8000\r\n")
    assert b"Proxy-Authorization: Basic bWU6c2VAY3JldA==" in request


async def test_a_host_that_needs_no_proxy_is_asked_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Server()) as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with client_of(server) as client:
            assert (await client.ask("GET", "/")).body == b"hi"


async def test_https_goes_through_a_proxys_tunnel(
    certificates: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(passed(reader, back), passed(there, writer))

    async with serving(Server(), tls) as server, await asyncio.start_server(tunnel, "127.0.0.1") as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        with client_of(server, Account(tls_ca=str(certificates / "ca.crt")), "https") as client:
            assert (await client.ask("GET", "/x")).body == b"hi"
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} ".encode())
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in heads[0]
    assert server.requests[0].startswith(b"GET /x ")


async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    await closed(writer)
