"""The hub's HTTP API, whole, on a real broker and a real database."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub


async def test_health_is_ok_with_a_broker(hub: RunningHub) -> None:
    health = await hub.get("/health")
    assert (health["status"], health["broker"], health["database"]) == ("ok", "connected", "ok")


async def test_bootstrap_tells_a_worker_where_the_broker_is(hub: RunningHub) -> None:
    assert await hub.get("/api/bootstrap") == {
        "broker_url": hub.settings.broker_url,
        "root": hub.settings.root,
    }


async def test_bootstrap_names_the_host_by_which_the_worker_came(hub: RunningHub) -> None:
    answer = await hub.http.get("/api/bootstrap", headers={"Host": "hub.example:8000"})
    assert answer.json()["broker_url"] == hub.settings.broker_url.replace("127.0.0.1", "hub.example")


async def test_bootstrap_tells_the_public_url_where_there_is_one(world: World) -> None:
    async with world.hub(public_broker_url="mqtts://broker.example") as hub:
        assert (await hub.get("/api/bootstrap"))["broker_url"] == "mqtts://broker.example"


async def test_a_posted_task_is_created_once(hub: RunningHub) -> None:
    body = {"id": "t1", "kind": "noop", "site": "site-a", "params": {"n": 1}}
    answer = await hub.http.post("/api/tasks", json=body)
    assert (answer.status_code, answer.headers["Location"]) == (201, "/api/tasks/t1")
    again = await hub.post(body, 200)
    assert again == answer.json()
    assert (again["state"], again["reason"]) == ("pending", "no worker at site-a is known")


async def test_the_same_body_in_another_order_is_the_same_task(hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop", "params": {"a": 1, "b": 2}})
    await hub.post({"params": {"b": 2, "a": 1}, "kind": "noop", "id": "t1", "priority": 0}, 200)


@pytest.mark.parametrize(
    "change", [{"params": {"n": 2}}, {"site": "site-b"}, {"priority": 1}, {"worker": "w1"}], ids=str
)
async def test_another_body_with_a_known_id_is_a_conflict(hub: RunningHub, change: dict[str, object]) -> None:
    body = {"id": "t1", "kind": "noop", "site": "site-a", "params": {"n": 1}}
    await hub.post(body)
    answer = await hub.http.post("/api/tasks", json={**body, **change})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["problems"][0] == {
        "field": "id",
        "value": '"t1"',
        "expected": "an id that no other task has",
        "message": 'id is "t1": expected an id that no other task has',
    }


async def test_a_task_without_an_id_gets_one(hub: RunningHub) -> None:
    first, second = await hub.post({"kind": "noop"}), await hub.post({"kind": "noop"})
    assert first["id"] != second["id"]
    assert (await hub.get(f"/api/tasks/{first['id']}"))["id"] == first["id"]


async def test_a_task_shows_what_the_contract_says(hub: RunningHub) -> None:
    body = {"id": "t1", "kind": "noop", "site": "site-a", "labels": {"team": "infra"}, "requires": {"docker": True}}
    await hub.post(body)
    alone = await hub.get("/api/tasks/t1")
    (listed,) = (await hub.get("/api/tasks"))["items"]
    shown = "id kind params site worker requires priority labels state reason attempt result error target parent"
    for name in (*shown.split(), "created_at", "started_at", "finished_at"):
        assert name in listed
    assert set(alone) - set(listed) == {"attempts", "timeline", "children", "explain"}
    assert (alone["requires"], alone["labels"], alone["params"]) == ({"docker": True}, {"team": "infra"}, {})
    assert alone["timeline"] == [{"at": alone["created_at"], "event": "created", "via": "http"}]


async def test_a_batch_answers_for_each_task_in_order(hub: RunningHub) -> None:
    await hub.post({"id": "known", "kind": "noop"})
    batch: list[object] = [
        {"id": "new", "kind": "noop"},
        {"id": "known", "kind": "noop"},
        {"id": "known", "kind": "noop", "priority": 3},
        {"id": "wrong", "kind": "noop", "timeout_secs": 3},
        {"id": "unheard", "kind": "of"},
        7,
        {"id": "last", "kind": "noop"},
    ]
    answer = await hub.http.post("/api/tasks/batch", json=batch)
    assert answer.status_code == 201
    items = answer.json()["items"]
    assert [item["status"] for item in items] == [
        "created",
        "known",
        "clash",
        "invalid",
        "invalid",
        "invalid",
        "created",
    ]
    assert [item["id"] for item in items] == ["new", "known", "known", "wrong", "unheard", None, "last"]
    assert [items[number]["problems"][0]["field"] for number in (2, 3, 4, 5)] == [
        "id",
        "[3].timeout_secs",
        "[4].kind",
        "[5]",
    ]


async def test_a_batch_can_be_one_task_a_line(hub: RunningHub) -> None:
    lines = b'{"id": "t1", "kind": "noop"}\r\n\n{"id": "t2", "kind": "noop", "x": 1}\n{"id": "t3", "kind": "noop"}'
    answer = await hub.http.post("/api/tasks/batch", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert [item["status"] for item in answer.json()["items"]] == ["created", "invalid", "created"]


async def test_a_batch_that_creates_nothing_answers_200(hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop"})
    assert (await hub.http.post("/api/tasks/batch", json=[{"id": "t1", "kind": "noop"}])).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"[", b"nonsense", b"\xff"])
async def test_a_batch_that_is_none_is_refused(hub: RunningHub, body: bytes) -> None:
    answer = await hub.http.post("/api/tasks/batch", content=body)
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["expected"]


async def test_tasks_are_listed_newest_first_and_paged(hub: RunningHub) -> None:
    await hub.http.post("/api/tasks/batch", json=[{"id": f"t{number}", "kind": "noop"} for number in range(7)])
    seen: list[str] = []
    query: dict[str, str | float] = {"limit": 3}
    while True:
        page = await hub.get("/api/tasks", **query)
        seen += [task["id"] for task in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == [f"t{number}" for number in range(6, -1, -1)]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"site": "site-a"}, ["t3", "t1"]),
        ({"site": "nowhere"}, []),
        ({"kind": "sleep"}, ["t3"]),
        ({"state": "pending"}, ["t3", "t2", "t1"]),
        ({"state": "running"}, []),
        ({"site": "site-a", "kind": "noop"}, ["t1"]),
        ({"since": "2020-01-01T00:00:00Z"}, ["t3", "t2", "t1"]),
        ({"since": "2100-01-01T00:00:00Z"}, []),
    ],
    ids=str,
)
async def test_a_list_shows_what_was_asked_for(hub: RunningHub, query: dict[str, str], ids: list[str]) -> None:
    await hub.post({"id": "t1", "kind": "noop", "site": "site-a"})
    await hub.post({"id": "t2", "kind": "noop", "site": "site-b"})
    await hub.post({"id": "t3", "kind": "sleep", "site": "site-a"})
    assert [task["id"] for task in (await hub.get("/api/tasks", **query))["items"]] == ids


async def test_a_wait_ends_with_the_task(hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop", "expires_in_seconds": 0.3})
    waits = await asyncio.gather(hub.ended("t1"), hub.ended("t1"))
    for waited in waits:
        assert waited["state"] == "expired"
        assert waited["error"] == "not started in time: no worker at any site is known"
    assert (await hub.ended("t1"))["state"] == "expired"


async def test_a_wait_that_is_too_short_shows_the_task_as_it_stands(hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop"})
    assert (await hub.get("/api/tasks/t1/wait", timeout=0.01))["state"] == "pending"


@pytest.mark.parametrize(
    "path", ["/api/tasks/none", "/api/tasks/none/wait", "/api/workers/none", "/api/workers/none/tasks"]
)
async def test_what_is_not_there_is_named(hub: RunningHub, path: str) -> None:
    answer = await hub.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["problems"][0]["value"] == '"none"'


async def test_no_such_route_is_a_problem_document_too(hub: RunningHub) -> None:
    answer = await hub.http.get("/api/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_method_that_is_not_allowed_says_which_are(hub: RunningHub) -> None:
    answer = await hub.http.put("/api/tasks/batch", json=[])
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert "POST" in answer.headers["Allow"]


async def test_workers_and_sites_are_listed(world: World, hub: RunningHub) -> None:
    await hub.post({"kind": "noop", "site": "site-c"})
    async with (
        world.worker("w1", capabilities={"docker": True, "arch": "arm64"}),
        world.worker("w2", "site-b") as second,
    ):
        await second.farewell(stopped=True)
        await hub.worker("w2", state="offline")
        assert [one["id"] for one in (await hub.get("/api/workers"))["items"]] == ["w1", "w2"]
        for query, ids in (
            ({"site": "site-a"}, ["w1"]),
            ({"state": "offline"}, ["w2"]),
            ({"capability": "docker"}, ["w1"]),
            ({"capability": "arch=arm64"}, ["w1"]),
            ({"capability": "docker=true"}, ["w1"]),
            ({"capability": "arch=amd64"}, []),
            ({"capability": "gpu"}, []),
            ({"capability": "docker=false"}, ["w2"]),
            ({"capability": "gpu=false"}, ["w1", "w2"]),
        ):
            assert [one["id"] for one in (await hub.get("/api/workers", **query))["items"]] == ids
        sites = {one["site"]: one for one in (await hub.get("/api/sites"))["items"]}
        assert sites["site-a"]["workers"] == {"online": 1, "suspect": 0, "offline": 0}
        assert sites["site-b"]["workers"]["offline"] == 1
        assert sites["site-c"]["tasks"]["pending"] == 1
        shown = "id site state reason since last_seen capabilities slots kinds version running queued journal clock"
        for name in shown.split():
            assert name in await hub.get("/api/workers/w1")


async def test_a_body_that_is_too_long_is_refused_and_the_next_is_not(hub: RunningHub) -> None:
    huge = json.dumps({"kind": "noop", "params": {"x": "y" * 2**20}}).encode()
    answer = await hub.http.post("/api/tasks", content=huge)
    assert answer.status_code in (413, 422)
    assert answer.json()["problems"][0]["field"] == "body"
    await hub.post({"kind": "noop"})
