"""Every route of the API against all that can be shown to it: what the table allows passes, all else is refused."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest

from hub.api.app import ROUTES
from tests.integration.hub.conftest import World
from tests.support.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.local import PrivateBroker
    from tests.support.hubs import RunningHub

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

NOBODY = ("nothing", "nonsense", "forged", "unknown", "expired", "revoked", "wrong password", "revoked worker")
"""What does not hold."""

ANYBODY = "anybody"
WORKERS = ("worker",)
VIEWERS = ("viewer", "operator", "admin")
OPERATORS = ("operator", "admin")
ADMINS = ("admin",)

ALLOWED: dict[str, str | tuple[str, ...]] = {
    "GET /health": ANYBODY,
    "GET /api/bootstrap": ANYBODY,
    "GET /api/ca": ANYBODY,
    "POST /api/enrol": ANYBODY,
    "POST /api/link": WORKERS,
    "GET /api/sites": VIEWERS,
    "GET /api/workers": VIEWERS,
    "GET /api/workers/{id}": VIEWERS,
    "GET /api/workers/{id}/tasks": VIEWERS,
    "GET /api/tasks": VIEWERS,
    "POST /api/tasks": OPERATORS,
    "POST /api/tasks/batch": OPERATORS,
    "GET /api/tasks/{id}": VIEWERS,
    "GET /api/tasks/{id}/wait": VIEWERS,
    "GET /api/tasks/{id}/log": VIEWERS,
    "POST /api/tasks/{id}/cancel": OPERATORS,
    "POST /api/tasks/{id}/retry": OPERATORS,
    "POST /api/tasks/{id}/resolve": OPERATORS,
    "GET /api/schedules": VIEWERS,
    "GET /api/schedules/{name}": VIEWERS,
    "PUT /api/schedules/{name}": OPERATORS,
    "DELETE /api/schedules/{name}": OPERATORS,
    "GET /api/skips": VIEWERS,
    "GET /api/rejections": VIEWERS,
    "GET /api/gaps": VIEWERS,
    "GET /api/tokens": ADMINS,
    "POST /api/tokens": ADMINS,
    "DELETE /api/tokens/{id}": ADMINS,
    "GET /api/audit": ADMINS,
    "GET /api/enrolments": ADMINS,
    "POST /api/enrolments": ADMINS,
    "DELETE /api/enrolments/{id}": ADMINS,
    "GET /api/accounts": ADMINS,
    "POST /api/accounts/{name}/revoke": ADMINS,
}
"""Who may do what, as people read it; the hub has a table of its own."""

SAME_PATH = {"GET /api/tasks/batch": "GET /api/tasks/{id}"}
"""A task could be called `batch`."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class House(NamedTuple):
    """A hub that takes nothing but tokens, and what opens it."""

    hub: RunningHub
    keys: Keys

    async def ask(self, method: str, path: str, shown: str, **more: Any) -> httpx.Response:  # noqa: ANN401
        """Ask as somebody, from an address of one's own: no failure holds up the next."""
        one = self.keys.shown[shown]
        headers = {**one.headers, "X-Forwarded-For": next(_ADDRESSES), **more.pop("headers", {})}
        auth = httpx.BasicAuth(*one.auth) if one.auth else None
        return await self.hub.http.request(method, path, headers=headers, auth=auth, **more)


_ADDRESSES = (f"10.{a}.{b}.{c}" for a, b, c in itertools.product(range(256), repeat=3))


@pytest.fixture(scope="module")
async def house(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    world = World(broker.url, tmp_path_factory.mktemp("access"))
    keys = Keys(world.settings())
    async with world.hub(trusted_proxies=("127.0.0.1",)) as hub:
        yield House(hub, keys)


def routes() -> list[str]:
    """Return every route that the application has: `GET /api/tasks`."""
    return sorted(f"{method} {route.path}" for route in ROUTES for method in (route.methods or ()) if method != "HEAD")


def allowed(method: str, path: str) -> str | tuple[str, ...] | None:
    """Return who may do that, None where there is no such route."""
    route = f"{'GET' if method == 'HEAD' else method} {path}"
    return ALLOWED.get(SAME_PATH.get(route, route))


def test_the_table_has_every_route_and_no_other() -> None:
    assert sorted(ALLOWED) == routes()


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
async def test_a_route_lets_in_whom_the_table_says_and_nobody_else(house: House, path: str) -> None:
    for method, shown in itertools.product(METHODS, house.keys.shown):
        answer = await house.ask(method, path.replace("{id}", "x1").replace("{name}", "x1"), shown, content=b"{")
        expected, who = _expected(method, path, shown), f"{method} {path} by {shown}"
        if expected is None:
            assert answer.status_code in {200, 404, 422}, who
        else:
            assert answer.status_code == expected, who
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, who
        assert ("www-authenticate" in answer.headers) is (answer.status_code == 401), who
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", who


def _expected(method: str, path: str, shown: str) -> int | None:
    """Return what is answered, None for whatever the route itself says to what it is asked."""
    who = allowed(method, path)
    if who == ANYBODY or (who and shown in who):
        return None
    if shown in NOBODY:
        return 401
    if who is None:  # no such method
        return 405 if shown in VIEWERS else 403
    return 403


@pytest.mark.parametrize(
    "path", ["/api/audit%0A", "/api/tokens%0a", "/api/tasks%0A", "//api/audit", "/api/audit/", "/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_other_way_to_write_a_path_gets_past_the_table(house: House, method: str, path: str) -> None:
    assert (await house.ask(method, path, "nothing")).status_code == 401
    answer = await house.ask(method, path, "viewer", content=b'{"kind": "noop"}')
    assert answer.status_code in {404, 405, 307}
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_is_refused_says_why_and_what_it_takes(house: House) -> None:
    missing = await house.ask("GET", "/api/tasks", "nothing")
    assert missing.headers["www-authenticate"] == 'Bearer realm="holdfast"'
    assert "edge-hub tokens create" in missing.json()["detail"]
    for shown, words in (("forged", "not known"), ("expired", "expired is expired"), ("revoked", "revoked is revoked")):
        answer = await house.ask("GET", "/api/tasks", shown)
        assert answer.headers["www-authenticate"] == 'Bearer realm="holdfast", error="invalid_token"'
        assert words in answer.json()["detail"]
    lacking = (await house.ask("POST", "/api/tasks", "viewer", json={"kind": "noop"})).json()
    assert (lacking["needs"], lacking["role"], lacking["title"]) == ("operator", "viewer", "Not allowed")
    link = await house.ask("POST", "/api/link", "nothing")
    assert link.headers["www-authenticate"].startswith('Basic realm="holdfast"')


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_a_page_of_another_site_changes_nothing(house: House, world: World, headers: dict[str, str]) -> None:
    task = {"id": "evil", "kind": "noop"}
    assert (await house.ask("POST", "/api/tasks", "admin", json=task, headers=headers)).status_code == 403
    assert (await house.ask("GET", "/api/tasks/evil", "admin", headers=headers)).status_code == 404
    async with world.hub() as anonymous:  # there is no token to be stolen, and still
        answer = await anonymous.http.post("/api/tasks", json=task, headers=headers)
        assert (answer.status_code, answer.json()["title"]) == (403, "Not allowed")
        assert (await anonymous.http.get("/api/tasks/evil")).status_code == 404
        own = {"Origin": str(anonymous.http.base_url).rstrip("/")}
        assert (await anonymous.http.post("/api/tasks", json=task, headers=own)).status_code == 201


async def test_without_tokens_all_but_what_is_an_administrators_is_open_but_to_names_that_are_not_loopbacks(
    world: World,
) -> None:
    async with world.hub() as hub:
        for route in routes():
            method, path = route.split()
            path = path.replace("{id}", "x1").replace("{name}", "x1")
            answer = await hub.http.request(method, path, content=b"{")
            if ALLOWED[route] == ADMINS:  # or the first to come could lock out all others
                assert answer.status_code == 401, route
                continue
            assert answer.status_code in {200, 404, 422}, route
            named = await hub.http.request(method, path, content=b"{", headers={"Host": "evil.example"})
            assert (named.status_code == 403) is (ALLOWED[route] != ANYBODY), route


async def test_required_tokens_are_required_before_there_are_any(world: World) -> None:
    async with world.hub(require_tokens=True) as hub:
        assert (await hub.http.get("/api/tasks")).status_code == 401
        assert (await hub.http.get("/health")).status_code == 200


async def test_managed_accounts_are_wanted_on_the_link_even_without_tokens(world: World) -> None:
    async with world.hub(manage_accounts=True) as hub:
        assert (await hub.http.get("/api/tasks")).status_code == 200
        assert (await hub.http.post("/api/link", json={})).status_code == 401


async def test_an_error_of_our_own_has_the_headers_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.hub() as hub:

        def fail(*_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(hub.hub._fleet, "all", fail)  # noqa: SLF001
        answer = await hub.http.get("/api/workers")
        assert answer.status_code == 500
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
