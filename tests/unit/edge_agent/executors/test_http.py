"""Requests as tasks: what is sent, what comes back, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import ssl
import subprocess
import sys
import tomllib
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from broker.errors import InvalidInput
from broker.messages import Outcome
from edge_agent import Agent, TaskContext
from edge_agent.execution import Execution
from edge_agent.executors import http, requester
from edge_agent.rules.urls import UrlPattern
from edge_agent.testing import run_task
from tests.support.http_server import HOST, Drip, Flood, answer, serving
from tests.support.programs import ROOT
from tests.support.tls_server import answering

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.testing import TaskRun

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def run(url: str, *, timeout_seconds: float | None = None, **params: Any) -> TaskRun:  # noqa: ANN401
    return await run_task(Agent(), "http", {"url": url, **params}, timeout_seconds=timeout_seconds)


async def test_the_answer_is_the_result() -> None:
    body = b'{"status": "ok"}'
    async with serving({"/health": answer(body=body, content_type="application/json", x_a="1")}) as server:
        done = await run(f"{server.url}/health?a=b", expect={"json": {"/status": "ok"}})
    assert isinstance(done.result, dict)
    assert done.outcome is Outcome.SUCCEEDED
    assert done.result.pop("elapsed_ms") in range(10_000)
    assert done.result == {
        "status": 200,
        "headers": {"content-length": "16", "content-type": "application/json", "x-a": "1"},
        "body": body.decode(),
        "truncated": False,
    }
    assert server.asked[0].line == "GET /health?a=b HTTP/1.1"
    assert server.asked[0].headers["user-agent"].startswith("holdfast/")


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ({"text": "grün"}, '{"text":"grün"}'.encode(), "application/json"),
        ([1, None], b"[1,null]", "application/json"),
        ("plain", b"plain", "text/plain; charset=utf-8"),
        ("", b"", "text/plain; charset=utf-8"),
        (None, b"", None),
    ],
)
async def test_a_body_is_sent_as_text_or_as_json(body: object, sent: bytes, content_type: str | None) -> None:
    async with serving({"/hook": answer("204 No Content")}) as server:
        done = await run(f"{server.url}/hook", method="POST", body=body)
    assert done.outcome is Outcome.SUCCEEDED
    assert (server.asked[0].body, server.asked[0].headers.get("content-type")) == (sent, content_type)


async def test_headers_go_before_our_own_and_an_account_is_sent() -> None:
    async with serving({"/": answer()}) as server:
        url = server.url.replace("//", "//me:s%20ecret@")
        await run(url, method="PUT", body={}, headers={"content-type": "application/x", "User-Agent": "me"})
    headers = server.asked[0].headers
    assert (headers["content-type"], headers["user-agent"]) == ("application/x", "me")
    assert headers["authorization"] == "Basic bWU6cyBlY3JldA=="


async def test_what_is_not_met_is_said_and_the_result_is_kept() -> None:
    async with serving({"/": answer("503 Service Unavailable", b"down")}) as server:
        done = await run(server.url, expect={"contains": "ok"})
    assert done.outcome is Outcome.FAILED
    assert done.error == "status is 503, expected 2xx; the body does not contain 'ok'"
    assert isinstance(done.result, dict)
    assert (done.result["status"], done.result["body"]) == (503, "down")


async def test_a_cookie_is_shown_to_nobody() -> None:
    async with serving({"/": answer(set_cookie="session=secret")}) as server:
        done = await run(server.url)
    assert "secret" not in json.dumps(done.result)


async def test_a_body_in_chunks_is_one_body() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n"
    async with serving({"/": chunked}) as server:
        done = await run(server.url)
    assert isinstance(done.result, dict)
    assert (done.result["body"], done.result["truncated"]) == ("one two", False)


async def test_an_answer_to_head_has_no_body() -> None:
    async with serving({"/": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"}) as server:
        done = await run(server.url, method="HEAD")
    assert done.outcome is Outcome.SUCCEEDED


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving({"http://nas.invalid/health": answer(body=b"by way of it")}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        done = await run("http://nas.invalid/health")
    assert isinstance(done.result, dict)
    assert done.result["body"] == "by way of it"


# -- redirects ---------------------------------------------------------------------------------------------------------


async def test_a_redirect_is_an_answer_like_any_other_unless_it_is_to_be_followed() -> None:
    answers = {"/old": answer("301 Moved", location="/new?token=secret"), "/new": answer(body=b"here")}
    async with serving(answers) as server:
        stayed = await run(f"{server.url}/old")
        followed = await run(f"{server.url}/old", follow_redirects=True, method="POST", body="x")
    assert stayed.error == "status is 301, expected 2xx"
    assert isinstance(followed.result, dict)
    assert (followed.result["body"], followed.result["url"]) == ("here", f"{server.url}/new")
    assert [one.line.split()[0] for one in server.asked] == ["GET", "POST", "GET"]


async def test_redirects_in_a_circle_end() -> None:
    async with serving({"/": answer("302 Found", location="/")}) as server:
        done = await run(server.url, follow_redirects=True)
    assert done.error == f"it was redirected more than 5 times, at last to {server.url}/"
    assert len(server.asked) == 6


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://[", "http://a b/"])
async def test_a_redirect_to_what_is_no_url_of_ours_is_not_followed(location: str) -> None:
    async with serving({"/": answer("302 Found", location=location)}) as server:
        done = await run(server.url, follow_redirects=True)
    assert done.outcome is Outcome.FAILED
    assert "redirect" in (done.error or "").lower()
    assert len(server.asked) == 1


async def test_a_redirect_does_not_lead_around_the_policy_and_takes_no_account_along() -> None:
    async with serving({"/secret": answer(), "/ok": answer()}) as inner:
        answers = {
            "/out": answer("302 Found", location=f"{inner.url}/secret"),
            "/ok": answer("302 Found", location=f"{inner.url}/ok"),
        }
        async with serving(answers) as server:
            allowed = [f"{server.url}/**", f"{inner.url}/ok"]
            params: dict[str, Any] = {
                "url": f"{server.url}/out",
                "follow_redirects": True,
                "headers": {"Authorization": "secret"},
            }
            refused = await run_task(Agent(), "http", params, allow_urls=allowed)
            followed = await run_task(Agent(), "http", {**params, "url": f"{server.url}/ok"}, allow_urls=allowed)
    assert refused.error == f"it was redirected: WORKER_ALLOW_URLS does not allow '{inner.url}/secret'"
    assert followed.outcome is Outcome.SUCCEEDED
    assert [(one.line, one.headers.get("authorization")) for one in inner.asked] == [("GET /ok HTTP/1.1", None)]


async def test_a_redirect_takes_a_key_along_to_the_same_server_and_to_no_other() -> None:
    async with serving({"/": answer()}) as other:
        answers = {
            "/": answer(),
            "/here": answer("307 Temporary Redirect", location="/"),
            "/there": answer("307 Temporary Redirect", location=f"{other.url}/"),
        }
        async with serving(answers) as server:
            for path in ("/here", "/there"):
                params: dict[str, Any] = {"method": "POST", "body": {}, "headers": {"X-Api-Key": "secret"}}
                done = await run(f"{server.url}{path}", follow_redirects=True, **params)
                assert done.outcome is Outcome.SUCCEEDED
    here, there = server.asked[1], other.asked[0]
    assert here.headers["x-api-key"] == "secret"
    assert "x-api-key" not in there.headers
    assert (there.headers["content-type"], there.body) == ("application/json", b"{}")


# -- too much, too slow, not at all ------------------------------------------------------------------------------------


async def test_of_a_flood_the_beginning_is_kept_in_flat_memory() -> None:
    async with serving({"/": Flood}) as server:
        await run(server.url)  # what is imported is not counted
        tracemalloc.start()
        try:
            done = await run(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await asyncio.wait_for(server.closed.wait(), 5)
    assert isinstance(done.result, dict)
    assert done.outcome is Outcome.SUCCEEDED
    assert (len(str(done.result["body"])), done.result["truncated"]) == (http.BODY_BYTES, True)
    assert peak < 16 * requester.MAX_READ_BYTES
    assert server.sent_bytes < 64 * requester.MAX_READ_BYTES


async def test_a_body_that_is_no_text_still_fits_into_a_result() -> None:
    async with serving({"/": answer(body=b"\x00\xff" * 100_000)}) as server:
        done = await run(server.url)
    assert isinstance(done.result, dict)
    assert done.outcome is Outcome.SUCCEEDED
    assert len(json.dumps(done.result)) < 256 * 1024
    assert done.result["truncated"]


async def test_expectations_look_beyond_what_a_result_holds() -> None:
    body = json.dumps({"filler": "x" * 200_000, "last": 1}).encode()
    async with serving({"/": answer(body=body)}) as server:
        assert (await run(server.url, expect={"json": {"/last": 1}})).outcome is Outcome.SUCCEEDED


async def test_without_a_time_limit_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEFAULT_TIMEOUT_SECONDS", 0.3)
    async with serving({"/": b"", "/drip": Drip}) as server:
        for path in ("/", "/drip"):
            done = await run(server.url + path)
            assert (done.outcome, done.error) == (Outcome.FAILED, "no answer within 0.3 s")


async def test_the_time_limit_of_the_task_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEFAULT_TIMEOUT_SECONDS", 0.01)
    async with serving({"/": b""}) as server:
        done = await run(server.url, timeout_seconds=0.3)
        assert (done.outcome, done.error) == (Outcome.TIMED_OUT, "not done within 0.3 s")
        await asyncio.wait_for(server.closed.wait(), 5)


@pytest.mark.parametrize("path", ["/", "/drip"])
async def test_cancelled_it_closes_the_connection(path: str) -> None:
    async with serving({"/": b"", "/drip": Drip}) as server:
        task = asyncio.create_task(run(server.url + path))
        await asyncio.wait_for(server.arrived.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.closed.wait(), 5)


async def test_who_does_not_listen_is_named() -> None:
    with socket.socket() as taken:  # bound, and never listening: nobody else gets the port meanwhile
        taken.bind((HOST, 0))
        place = f"{HOST}:{taken.getsockname()[1]}"
        done = await run(f"http://{place}/?token=secret")
    assert done.error == f"{place} refuses the connection: nothing listens there"


async def test_a_name_without_an_address_is_named() -> None:
    done = await run("http://no-such-host.invalid/")
    assert (done.error or "").startswith("no-such-host.invalid has no address: ")


async def test_who_does_not_take_the_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requester, "CONNECT_SECONDS", 0.3)
    with socket.socket() as full, socket.socket() as waiting, socket.socket() as refused:
        full.bind((HOST, 0))
        full.listen(0)  # one may wait; the system drops what comes after
        for one in (waiting, refused):
            one.setblocking(False)  # noqa: FBT003
            one.connect_ex(full.getsockname())
        place = f"{HOST}:{full.getsockname()[1]}"
        done = await run(f"http://{place}/")
    assert done.error == f"{place} has not taken the connection within 0.3 s"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
    ids=[
        "another protocol",
        "a wrong length",
        "a wrong status",
        "a body that breaks off",
        "wrong chunks",
        "a huge head",
    ],
)
async def test_what_is_no_http_is_a_failure_with_words(nonsense: bytes) -> None:
    async with serving({"/": nonsense}) as server:
        done = await run(server.url)
    assert done.outcome is Outcome.FAILED
    assert (done.error or "").startswith(f"what {server.url.removeprefix('http://')} answers is no HTTP: ")


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that vouches for 127.0.0.1; its key lies beside it."""
    folder = tmp_path_factory.mktemp("certificates")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=holdfast -addext subjectAltName=IP:127.0.0.1 "
        f"-keyout {folder}/ca.key -out {folder}/ca.crt"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    return folder / "ca.crt"


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


async def test_the_authority_of_the_setting_is_trusted_and_no_other(certificate: Path, tls: ssl.SSLContext) -> None:
    with answering(tls, answer(body=b"ok", connection="close")) as (port, asked):
        trusted = await run_task(Agent(), "http", {"url": f"https://{HOST}:{port}"}, http_ca=certificate)
        unknown = await run(f"https://{HOST}:{port}")
    assert trusted.outcome is Outcome.SUCCEEDED
    assert len(asked) == 1
    assert (unknown.error or "").startswith(f"the certificate of {HOST}:{port} is not trusted: self")
    assert "WORKER_HTTP_CA" in (unknown.error or "")


async def test_a_name_that_the_certificate_does_not_have_is_refused(certificate: Path, tls: ssl.SSLContext) -> None:
    with answering(tls, answer()) as (port, _):
        done = await run_task(Agent(), "http", {"url": f"https://localhost:{port}"}, http_ca=certificate)
    assert "is not trusted: Hostname mismatch" in (done.error or "")


async def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("no certificate")
    done = await run_task(Agent(), "http", {"url": "https://127.0.0.1/"}, http_ca=file)
    assert (done.error or "").startswith(f"WORKER_HTTP_CA is '{file}': expected certificates in PEM")


async def test_https_to_who_does_not_speak_it_is_named() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ready\r\n")
        writer.close()

    async with await asyncio.start_server(greet, HOST, 0) as server:
        done = await run(f"https://{HOST}:{server.sockets[0].getsockname()[1]}/")
    assert "does not speak TLS as we do" in (done.error or "")


async def test_who_says_nothing_is_not_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requester, "CONNECT_SECONDS", 0.3)
    async with serving({"/": answer()}) as server:
        done = await run(server.url.replace("http:", "https:"))  # each waits for the other's first word
    assert "has not taken the connection within 0.3 s" in (done.error or "")


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({}, "params.url is missing: expected a value"),
        ({"url": "ftp://a"}, "params.url is …: expected http:// or https://, a host, and what follows percent-encoded"),
        ({"url": "http://me:secret@"}, "params.url is …: expected http:// or https://, a host"),
        ({"url": "http://a", "method": "CONNECT"}, "params.method is \"CONNECT\": expected 'GET'"),
        (
            {"url": "http://a", "headers": {"A": "x\r\nB: secret"}},
            "params.headers.A is …: expected printable ASCII in one line",
        ),
        (
            {"url": "http://a", "headers": {"A\r\nB": "x"}},
            r'params.headers is …: expected names of headers: "A\r\nB" is',
        ),
        ({"url": "http://a", "headers": {"A": "grün"}}, "params.headers.A is …: expected printable ASCII"),
        ({"url": "http://a", "headers": {"HOST": "b"}}, "params.headers is …: expected no HOST, which is set by"),
        ({"url": "http://a", "headers": {"Transfer-Encoding": "chunked"}}, "params.headers is …: expected no Transfer"),
        ({"url": "http://a", "headers": {"A": "1", "a": "2"}}, "params.headers is …: expected A once"),
        ({"url": "http://a", "headers": {"A": 1}}, "params.headers.A is 1: expected a text"),
        ({"url": "http://a", "header": {"Key": "secret"}}, "params.header is …: there is no such field"),
        ({"url": "http://a", "body": ["secret", float("nan")]}, "params.body[1] is NaN: expected a finite number"),
        ({"url": "http://a", "verify": False}, "params.verify is false: there is no such field"),
        ({"url": "http://a", "expect": {"status": 1}}, "params.expect.status is 1: expected a status such as 200"),
        ({"url": "http://a", "timeout": 3}, "params.timeout is 3: there is no such field"),
    ],
)
async def test_wrong_params_are_named_and_secrets_are_not_repeated(params: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await run_task(Agent(), "http", params)
    assert str(raised.value).startswith(line)
    assert "secret" not in str(raised.value)


def test_what_no_pattern_allows_is_refused_without_its_secrets() -> None:
    executor = http.Http([UrlPattern.parse("https://hooks.example/**")])
    assert executor.refusal({"url": "https://hooks.example/a?b=c"}) is None
    refusal = executor.refusal({"url": "https://me:secret@bad.example/a?token=secret"})
    assert refusal == "WORKER_ALLOW_URLS does not allow 'https://bad.example/a'"


def test_the_patterns_of_the_guide_are_patterns() -> None:
    guide = (ROOT / "docs/http-tasks.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"^```toml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    executor = http.Http([UrlPattern.parse(one) for one in tomllib.loads(settings)["allow_urls"]])
    assert executor.refusal({"url": "http://nas.site-f.example:8080/health"}) is None
    assert executor.refusal({"url": "http://nas.site-f.example/health"})


async def test_without_network_access_it_is_not_offered() -> None:
    with pytest.raises(LookupError, match="http does not run here"):
        await run_task(Agent(), "http", {"url": "http://a"}, capabilities={})


async def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving({"/": answer("500 Oh")}) as server:
        await run(f"{server.url.replace('//', '//me:secret@')}/?token=secret", headers={"X-Key": "secret"})
    assert "secret" not in caplog.text


def test_an_agent_that_was_never_asked_has_not_loaded_the_client() -> None:
    program = "import sys, edge_agent.app; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 0


async def test_what_an_earlier_run_of_the_agent_let_in_is_asked_only_if_this_one_allows_it() -> None:
    context = TaskContext("test", 1, report=lambda _: None, clock=now_ms)
    async with serving({"/": answer()}) as server:
        executor = http.Http([UrlPattern.parse("https://hooks.example/**")])
        done = await Execution(executor, context).run({"url": f"{server.url}/"})

    assert (done.outcome, done.error) == (Outcome.FAILED, f"WORKER_ALLOW_URLS does not allow '{server.url}/'")
    assert server.asked == []
