"""The audit trail: who did what, and who was refused, however often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hub.keys import new_token
from hub.rules.failures import Failures
from hub.rules.secrets import Prefix
from tests.support.keys import Keys, administrator, bearer, writing

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub


async def test_a_flood_of_failures_holds_up_nobody_who_is_right(world: World) -> None:
    settings = world.settings()
    keys = Keys(settings)
    right = keys.shown["viewer"].headers
    async with world.hub() as hub:
        hub.hub._access._failures = Failures(seconds_per_try=600)  # noqa: SLF001  however slow this machine is
        answers = [
            await hub.http.get("/api/tasks", headers=bearer("forged", str(new_token(Prefix.API))).headers)
            for _ in range(30)
        ]
        assert [answer.status_code for answer in answers[:10]] == [401] * 10
        assert {answer.status_code for answer in answers[10:]} == {429}
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 600
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert (await hub.http.get("/api/tasks", headers=right)).status_code == 200
        assert (await hub.http.get("/health")).status_code == 200


async def test_a_flood_from_everywhere_fills_neither_memory_nor_the_database(world: World) -> None:
    settings = world.settings()
    keys = Keys(settings)
    async with world.hub(trusted_proxies=("127.0.0.0/8",)) as hub:
        access, audit = hub.hub._access, hub.hub._audit  # noqa: SLF001
        access._failures = Failures(places=100)  # noqa: SLF001
        forged = bearer("forged", str(new_token(Prefix.API))).headers
        for start in range(0, 600, 100):
            await asyncio.gather(
                *(
                    hub.http.get(
                        f"/api/{number}", headers={**forged, "X-Forwarded-For": f"10.1.{number // 256}.{number % 256}"}
                    )
                    for number in range(start, start + 100)
                )
            )
        assert len(access._failures) == 100  # noqa: SLF001
        assert len(audit._refusals._more) == 32  # noqa: SLF001
        right = await hub.http.get("/api/audit", params={"limit": 500}, headers=keys.shown["admin"].headers)
        lines = [line for line in right.json()["items"] if line["outcome"] == "refused"]
        assert len(lines) <= 32
    with writing(settings) as connection:
        told = connection.exec_driver_sql(
            "SELECT count(*), group_concat(detail) FROM audit WHERE outcome = 'refused'"
        ).one()
    assert told[0] <= 65
    assert "568 of other sorts" in told[1]


async def test_only_a_trusted_proxy_says_on_whose_behalf_it_asks(world: World) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    for proxies, address in (((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9"), (("10.0.0.0/8",), "127.0.0.1")):
        async with world.hub(require_tokens=True, trusted_proxies=proxies) as hub:
            answer = await hub.http.get("/api/tasks", headers=forwarded)
            assert ("strict-transport-security" in answer.headers) is (address != "127.0.0.1")
        with writing(world.settings()) as connection:
            assert connection.exec_driver_sql("SELECT address FROM audit ORDER BY seq DESC").scalar() == address


async def test_the_trail_says_who_did_what(world: World) -> None:
    keys = Keys(world.settings())
    async with world.hub(lost_after_seconds=0.1) as hub:
        hub.http.headers.update(keys.shown["operator"].headers)
        async with world.worker() as worker:
            await hub.post({"id": "t1", "kind": "noop", "idempotent": False})
            await worker.accept(await worker.next_assignment())
            worker.die()
        await hub.task("t1", state="unknown")
        await _post(hub, "/api/tasks/t1/resolve", {"outcome": "failed"})
        await _post(hub, "/api/tasks/t1/retry", {})
        await _post(hub, "/api/tasks/t1/cancel", {})
        await _post(hub, "/api/tasks/batch", [{"id": "b1", "kind": "noop"}, {"id": "b2", "kind": "noop"}])
        await hub.post({"id": "t1", "kind": "noop", "idempotent": False}, 200)  # known: nothing was done
        job = {"cron": "0 3 * * *", "timezone": "UTC", "task": {"kind": "noop"}}
        assert (await hub.http.put("/api/schedules/nightly", json=job)).status_code == 201
        assert (await hub.http.delete("/api/schedules/nightly")).status_code == 204
        hub.http.headers.update(keys.shown["admin"].headers)
        await _post(hub, "/api/tokens", {"name": "new", "role": "viewer"})
        assert (await hub.http.delete("/api/tokens/new")).status_code == 204
        trail = await hub.get("/api/audit", limit=9)
        assert [(line["who"], line["role"], line["action"], line["target"]) for line in reversed(trail["items"])] == [
            ("token:operator", "operator", "task.submitted", "t1"),
            ("token:operator", "operator", "task.resolved", "t1"),
            ("token:operator", "operator", "task.retried", "t1"),
            ("token:operator", "operator", "task.cancelled", "t1"),
            ("token:operator", "operator", "task.submitted", "b1"),
            ("token:operator", "operator", "schedule.put", "nightly"),
            ("token:operator", "operator", "schedule.deleted", "nightly"),
            ("token:admin", "admin", "token.created", "new"),
            ("token:admin", "admin", "token.revoked", "new"),
        ]
        assert {line["address"] for line in trail["items"]} == {"127.0.0.1"}
        assert {line["who"] for line in (await hub.get("/api/audit", cursor=trail["next"]))["items"]} == {"local:test"}
        (batch,) = (await hub.get("/api/audit", action="task.submitted", limit=1))["items"]
        assert batch["detail"] == "2 tasks, the last of them b2"
        assert {line["action"] for line in (await hub.get("/api/audit", action="token"))["items"]} == {
            "token.created",
            "token.revoked",
        }
        assert (await hub.get("/api/audit", who="token:nobody"))["items"] == []
        assert (await hub.get("/api/audit", since="2100-01-01T00:00:00Z"))["items"] == []


async def _post(hub: RunningHub, path: str, body: object) -> None:
    answer = await hub.http.post(path, json=body)
    assert answer.is_success, answer.text


async def test_what_fails_leaves_no_line_that_it_was_done(world: World) -> None:
    headers = administrator(world.settings())
    async with world.hub() as hub:
        hub.http.headers.update(headers)
        assert (await hub.http.post("/api/tasks/t9/cancel", json={})).status_code == 404
        assert [line["action"] for line in (await hub.get("/api/audit"))["items"]] == ["token.created"]
