"""Tokens of the API: made, used and revoked, by the API and by another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.clock import wall_ms
from hub.store.tokens import revoke_token
from tests.support.keys import TESTER, Keys, administrator, writing

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World


async def test_tokens_are_made_listed_used_and_revoked(world: World) -> None:
    first_admin = administrator(world.settings())
    async with world.hub() as hub:
        made = await hub.http.post("/api/tokens", json={"name": "root", "role": "admin"}, headers=first_admin)
        assert made.status_code == 201
        assert (await hub.http.get("/api/tokens")).status_code == 401
        hub.http.headers["Authorization"] = f"Bearer {made.json()['token']}"
        body = {"name": "eye", "role": "viewer", "expires_in_days": 1}
        eye = (await hub.http.post("/api/tokens", json=body)).json()
        (first, second, _) = (await hub.get("/api/tokens"))["items"]
        assert (first["name"], first["role"], first["state"], second["name"]) == ("eye", "viewer", "valid", "root")
        assert second["last_used_at"] is not None
        assert made.json()["token"] not in (await hub.http.get("/api/tokens")).text
        again = await hub.http.post("/api/tokens", json=body)
        assert (again.status_code, again.json()["problems"][0]["field"]) == (422, "name")
        wrong = await hub.http.post("/api/tokens", json={"name": "x", "role": "king"})
        assert (wrong.status_code, wrong.json()["problems"][0]["field"]) == (422, "role")
        viewing = {"Authorization": f"Bearer {eye['token']}"}
        assert (await hub.http.get("/api/tasks", headers=viewing)).status_code == 200
        assert (await hub.http.delete(f"/api/tokens/{eye['id']}")).status_code == 204
        assert (await hub.http.get("/api/tasks", headers=viewing)).status_code == 401
        assert (await hub.http.delete(f"/api/tokens/{eye['id']}")).status_code == 204
        assert (await hub.http.delete("/api/tokens/nobody")).status_code == 404
        assert (await hub.http.post("/api/tokens", json=body)).status_code == 201  # the name is free again


async def test_when_a_token_was_used_outlives_the_hub(world: World) -> None:
    keys = Keys(world.settings())
    async with world.hub() as hub:
        await hub.http.get("/api/tasks", headers=keys.shown["viewer"].headers)
    async with world.hub() as hub:
        answer = await hub.http.get("/api/tokens", headers=keys.shown["admin"].headers)
        used = {one["name"]: one["last_used_at"] for one in answer.json()["items"]}
    assert used["viewer"] is not None
    assert used["operator"] is None


async def test_with_all_tokens_revoked_nobody_comes_in(world: World) -> None:
    settings = world.settings()
    keys = Keys(settings)
    with writing(settings) as connection:
        for name in ("viewer", "operator", "admin"):
            revoke_token(connection, name, wall_ms(), TESTER)
    async with world.hub() as hub:
        for name in keys.shown:
            answer = await hub.http.get("/api/tasks", headers=keys.shown[name].headers)
            assert answer.status_code in {401, 429}


async def test_what_another_process_changes_is_known_within_a_second(world: World) -> None:
    settings = world.settings()
    keys = Keys(settings)
    changed = asyncio.Event()

    async def on_change() -> None:
        changed.set()

    async with world.hub() as hub:
        hub.hub._watch.listen(on_change, "token")  # noqa: SLF001  after the hub itself
        headers = keys.shown["viewer"].headers
        assert (await hub.http.get("/api/tasks", headers=headers)).status_code == 200
        with writing(settings) as connection:
            revoke_token(connection, "viewer", wall_ms(), TESTER)
        async with asyncio.timeout(20):  # it is half a second; this machine may be busy
            await changed.wait()
        assert (await hub.http.get("/api/tasks", headers=headers)).status_code == 401
