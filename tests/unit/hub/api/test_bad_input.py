"""Bad input by HTTP: each gets a problem document that names field and value, and the next good request is served."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import from_json

from broker.local import free_port
from tests.support.hubs import RunningHub, running_hub, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD = {"kind": "noop"}


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """A hub with no broker: its API works all the same."""
    settings = settings_for(f"mqtt://127.0.0.1:{free_port()}", tmp_path_factory.mktemp("hub"))
    async with running_hub(settings, linked=False) as running:
        yield running


async def serves_on(hub: RunningHub) -> None:
    answer = await hub.http.post("/api/tasks", json=GOOD)
    assert answer.status_code == 201
    assert (await hub.http.get("/health")).status_code == 200


def body(**change: object) -> bytes:
    return json.dumps({**GOOD, **change}).encode()


BODIES: dict[str, tuple[bytes, str, str]] = {
    # name: (body, field, part of the value)
    "empty": (b"", "body", ""),
    "not JSON": (b"nonsense", "body", "nonsense"),
    "cut off": (b'{"kind": "noop"', "body", "noop"),
    "two of them": (b"{} {}", "body", "{}"),
    "invalid UTF-8": (b'{"kind": "\xff"}', "body", "\\xff"),
    "a lone surrogate": (b'{"kind": "\\ud800"}', "body", "ud800"),
    "an array": (b"[]", "body", "[]"),
    "a number": (b"7", "body", "7"),
    "null": (b"null", "body", "null"),
    "a text": (b'"noop"', "body", "noop"),
    "deep nesting": (b'{"kind": "noop", "params": {"x": ' + b"[" * 9999 + b"]" * 9999 + b"}}", "body", "["),
    "a mebibyte": (body(params={"x": "y" * 2**20}), "body", "bytes long"),
    "no kind": (b"{}", "kind", ""),
    "kind null": (body(kind=None), "kind", "null"),
    "kind empty": (body(kind=""), "kind", '""'),
    "kind of a number": (body(kind=7), "kind", "7"),
    "kind in capitals": (body(kind="NOOP"), "kind", "NOOP"),
    "kind with a newline": (body(kind="noop\n"), "kind", "noop"),
    "kind unknown": (body(kind="no.such.kind"), "kind", "no.such.kind"),
    "misspelt field": (body(timeout_secs=5), "timeout_secs", "5"),
    "attempt": (body(attempt=1), "attempt", "1"),
    "id with a slash": (body(id="a/b"), "id", "a/b"),
    "id empty": (body(id=""), "id", '""'),
    "id too long": (body(id="x" * 129), "id", "xxx"),
    "id of a number": (body(id=5), "id", "5"),
    "site with a slash": (body(site="a/b"), "site", "a/b"),
    "site with a plus": (body(site="a+"), "site", "a+"),
    "site a hash": (body(site="#"), "site", "#"),
    "site in capitals": (body(site="Site-A"), "site", "Site-A"),
    "site empty": (body(site=""), "site", '""'),
    "site with a newline": (body(site="site-a\n"), "site", "site-a"),
    "site of 64": (body(site="s" * 64), "site", "sss"),
    "worker with a space": (body(worker="w 1"), "worker", "w 1"),
    "params an array": (body(params=[1]), "params", "[1]"),
    "params with NaN": (b'{"kind": "noop", "params": {"x": NaN}}', "params.x", "NaN"),
    "params too large a number": (b'{"kind": "noop", "params": {"x": 1e999}}', "params.x", "Infinity"),
    "requires a list": (body(requires=["docker"]), "requires", "docker"),
    "requires null": (body(requires={"docker": None}), "requires.docker", "null"),
    "requires an unknown bound": (body(requires={"x": {"least": 1}}), "requires.x.least", "1"),
    "requires a text as minimum": (body(requires={"x": {"min": "1"}}), "requires.x.min", "1"),
    "requires one of none": (body(requires={"x": {"in": []}}), "requires.x.in", "[]"),
    "requires an odd name": (body(requires={"a b": True}), "requires.a b", "a b"),
    "priority 101": (body(priority=101), "priority", "101"),
    "priority a text": (body(priority="5"), "priority", '"5"'),
    "priority a fraction": (body(priority=0.5), "priority", "0.5"),
    "timeout -1": (body(timeout_seconds=-1), "timeout_seconds", "-1"),
    "timeout 0": (body(timeout_seconds=0), "timeout_seconds", "0"),
    "timeout a text": (body(timeout_seconds="5m"), "timeout_seconds", "5m"),
    "timeout for ever": (body(timeout_seconds=1e12), "timeout_seconds", "1000000000000.0"),
    "expires -1": (body(expires_in_seconds=-1), "expires_in_seconds", "-1"),
    "retry a number": (body(retry=3), "retry", "3"),
    "no attempts": (body(retry={"max_attempts": 0}), "retry.max_attempts", "0"),
    "backoff -1": (body(retry={"backoff_seconds": -1}), "retry.backoff_seconds", "-1"),
    "idempotent a text": (body(idempotent="no"), "idempotent", '"no"'),
    "target some": (body(target="some"), "target", "some"),
    "labels a list": (body(labels=["a"]), "labels", "a"),
    "label a number": (body(labels={"a": 1}), "labels.a", "1"),
}


@pytest.mark.parametrize(("content", "field", "value"), BODIES.values(), ids=BODIES)
async def test_a_bad_body_is_named(hub: RunningHub, content: bytes, field: str, value: str) -> None:
    answer = await hub.http.post("/api/tasks", content=content)
    status = 413 if value == "bytes long" else 422
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    first: dict[str, Any] = document["problems"][0]
    assert (document["status"], bool(document["title"])) == (status, True)
    assert first["field"].startswith(field)
    assert value in first["value"]
    assert first["expected"]
    assert first["message"] in document["detail"]
    await serves_on(hub)


def _is_one_element(content: bytes) -> bool:
    try:
        return not isinstance(from_json(content), list) and len(content) < 2**20
    except ValueError:
        return False  # it spoils the array that it stands in


ELEMENTS = {name: case for name, case in BODIES.items() if _is_one_element(case[0])}


@pytest.mark.parametrize("name", ELEMENTS)
async def test_in_a_batch_it_does_not_stop_the_good_ones(hub: RunningHub, name: str) -> None:
    content, field, _ = ELEMENTS[name]
    answer = await hub.http.post("/api/tasks/batch", content=b"[" + json.dumps(GOOD).encode() + b"," + content + b"]")
    assert answer.status_code == 201
    good, bad = answer.json()["items"]
    assert (good["status"], bad["status"]) == ("created", "invalid")
    assert bad["problems"][0]["field"].startswith("[1]" if field == "body" else f"[1].{field}")


QUERIES = {
    "limit 0": ("/api/tasks?limit=0", "limit", "0"),
    "limit too large": ("/api/tasks?limit=501", "limit", "501"),
    "limit a word": ("/api/tasks?limit=many", "limit", "many"),
    "limit empty": ("/api/tasks?limit=", "limit", '""'),
    "cursor a word": ("/api/tasks?cursor=abc", "cursor", "abc"),
    "cursor negative": ("/api/tasks?cursor=-1", "cursor", "-1"),
    "cursor beyond every key": (f"/api/tasks?cursor={2**63}", "cursor", str(2**63)),
    "cursor without end": (f"/api/tasks?cursor={'9' * 400}", "cursor", "999"),
    "state unknown": ("/api/tasks?state=asleep", "state", "asleep"),
    "since a word": ("/api/tasks?since=yesterday", "since", "yesterday"),
    "since with no zone": ("/api/tasks?since=2026-11-24T00:00:00", "since", "2026"),
    "misspelt": ("/api/tasks?sites=a", "sites", "a"),
    "rejections misspelt": ("/api/rejections?limits=1", "limits", "1"),
    "rejections limit": ("/api/rejections?limit=-1", "limit", "-1"),
    "rejections cursor": (f"/api/rejections?cursor={2**63}", "cursor", str(2**63)),
    "workers state": ("/api/workers?state=ok", "state", "ok"),
    "workers misspelt": ("/api/workers?capabilty=x", "capabilty", "x"),
    "sites": ("/api/sites?limit=1", "limit", "1"),
    "timeout negative": ("/api/tasks/t1/wait?timeout=-1", "timeout", "-1"),
    "timeout too long": ("/api/tasks/t1/wait?timeout=1e9", "timeout", "1e9"),
    "timeout no number": ("/api/tasks/t1/wait?timeout=nan", "timeout", "nan"),
    "timeout a word": ("/api/tasks/t1/wait?timeout=soon", "timeout", "soon"),
}


@pytest.mark.parametrize(("url", "field", "value"), QUERIES.values(), ids=QUERIES)
async def test_a_bad_query_is_named(hub: RunningHub, url: str, field: str, value: str) -> None:
    answer = await hub.http.get(url)
    assert answer.status_code == 422, answer.text
    first = answer.json()["problems"][0]
    assert (first["field"], value in first["value"]) == (field, True)
    await serves_on(hub)


@pytest.mark.parametrize(
    "path",
    ["/api/tasks/%00", "/api/tasks/%ff", "/api/tasks/..%2f..%2fetc", "/api/workers/%0a", "/api/tasks/" + "x" * 5000],
)
async def test_a_strange_path_is_not_found(hub: RunningHub, path: str) -> None:
    answer = await hub.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    await serves_on(hub)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/api/tasks"), ("DELETE", "/api/tasks/t1"), ("POST", "/health"), ("PATCH", "/api/workers/w1")],
)
async def test_a_method_that_is_not_there_is_refused(hub: RunningHub, method: str, path: str) -> None:
    answer = await hub.http.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    await serves_on(hub)


async def test_without_a_broker_the_hub_is_degraded_and_takes_tasks_in(hub: RunningHub) -> None:
    health = await hub.get("/health")
    assert (health["status"], health["broker"]) == ("degraded", "not connected")
    await serves_on(hub)
