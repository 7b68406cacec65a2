"""Backup of a hub at work, its loss, and the restore: what is lost is told, and nothing runs twice that must not."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import House, Hub, clean_environment, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TASKS_AT_ONCE = 50


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with make_house(tmp_path) as house:
        yield house


async def test_a_hub_that_was_lost_comes_back_from_a_backup_made_while_it_worked(house: House) -> None:
    """The whole of it, with real programs.

    `held` runs at its worker through backup, loss and restore. `once` and `again` wait for site-b when the backup is
    made, and have been done, and told, when the hub is lost.
    """
    ran, go = house.folder / "ran", house.folder / "go"
    agent_of = {"WORKER_ALLOW_COMMANDS": '["sh -c **"]'}
    hub = await house.hub()
    await house.agent("w1", "site-a", **agent_of)
    await hub.post(a_command("held", f"echo held >> {ran}; while ! [ -e {go} ]; do sleep 0.1; done", site="site-a"))
    await until_running(hub, "held")
    await hub.post(a_command("once", f"echo once >> {ran}", site="site-b"))
    await hub.post({**a_command("again", f"echo again >> {ran}", site="site-b"), "idempotent": True})
    await hub.post({"id": "before", "kind": "noop", "site": "site-a"})
    await hub.task("before")

    async with work(hub, "site-a") as done:
        await run(house, "backup", str(house.folder / "backup.db"))
        backed_up = len(done)
    assert backed_up
    worker = await house.agent("w2", "site-b", **agent_of)
    for name in ("once", "again"):
        assert (await hub.task(name))["state"] == "succeeded"
    await hub.post({"id": "after", "kind": "noop", "site": "site-b"})
    await hub.task("after")
    await hub.post(a_command("in-hand", f"echo in-hand >> {ran}; while ! [ -e {go} ]; do sleep 0.1; done", "site-b"))
    await until_running(hub, "in-hand")

    await hub.program.kill()
    said = await run(house, "restore", str(house.folder / "backup.db"), "--replace")
    assert "2 tasks that may not run twice are unknown" in said
    hub = await house.hub(HUB_ACCEPT_TIMEOUT_SECONDS="2")
    await worker.logged("synced", after=len(worker.lines))

    assert (await hub.task("again"))["state"] == "succeeded"  # as the next attempt: its worker has ended the first
    once = await shown(hub, "once")
    assert once["state"] == "unknown"
    assert "restored from the backup of" in str(once["reason"])
    await until_running(hub, "held")
    go.touch()
    assert (await hub.task("held"))["state"] == "succeeded"
    assert sorted(ran.read_text().split()) == ["again", "again", "held", "in-hand", "once"]

    assert (await hub.task("before"))["state"] == "succeeded"
    assert (await hub.http.get("/api/tasks/after")).status_code == 404
    gaps = {str(gap["worker"]): gap for gap in await hub.items("/api/gaps")}
    assert set(gaps) == {"w1", "w2"}
    for gap in gaps.values():
        assert gap["dropped"] == "everything"
        assert str(gap["reason"]).startswith("this database has lost what its worker told of it, after event ")
    for site in ("site-a", "site-b"):  # and the work goes on
        task = await hub.post({"kind": "noop", "site": site})
        assert (await hub.task(str(task["id"])))["state"] == "succeeded"


async def test_a_move_to_another_place_loses_nothing_and_holds_nothing_back(house: House) -> None:
    hub = await house.hub()
    await hub.post({"id": "waits", "kind": "noop", "site": "site-a", "idempotent": False})
    await hub.program.stop()
    file = (await run(house, "backup", str(house.folder))).strip()
    moved = {"HUB_DATABASE_URL": f"sqlite:///{house.folder}/new/hub.db"}
    await run(house, "restore", file, "--complete", **moved)
    hub = await house.hub(**moved)
    await house.agent("w1", "site-a")
    assert (await hub.task("waits"))["state"] == "succeeded"
    assert await hub.items("/api/gaps") == []


async def test_a_backup_goes_through_a_pipe_to_where_there_is_room_for_it(house: House) -> None:
    hub = await house.hub()
    await hub.post({"id": "waits", "kind": "noop", "site": "site-a"})
    (house.folder / "new").mkdir()
    script = (
        f"{sys.executable} -m hub backup - > backup.db && "
        f"HUB_DATABASE_URL=sqlite:///new/hub.db {sys.executable} -m hub restore - --complete < backup.db"
    )
    database = {"HUB_DATABASE_URL": f"sqlite:///{house.folder / 'hub.db'}"}
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script), env=clean_environment(database), cwd=house.folder
    )
    assert await process.wait() == 0
    await hub.program.stop()
    assert sorted(path.name for path in (house.folder / "new").iterdir()) == ["hub.db", "hub.db.lock"]
    moved = await house.hub(HUB_DATABASE_URL=f"sqlite:///{house.folder}/new/hub.db")
    assert (await shown(moved, "waits"))["state"] == "pending"


async def test_nobody_serves_or_restores_a_database_that_a_hub_has(house: House) -> None:
    hub = await house.hub()
    file = str(house.folder / "backup.db")
    await run(house, "backup", file)
    for command in (("serve",), ("restore", file, "--replace")):
        code, said = await attempt(house, *command)
        assert code == 2
        assert f"in use by edge-hub serve, process {hub.program.pid} on " in said
    assert (await hub.http.get("/health")).json()["status"] == "ok"
    await hub.program.kill()
    again = await house.hub()  # nobody has to clean up after one that was killed
    assert (await again.http.get("/health")).json()["status"] == "ok"


def a_command(name: str, script: str, site: str) -> dict[str, object]:
    return {
        "id": name,
        "kind": "command",
        "params": {"argv": ["sh", "-c", script]},
        "site": site,
        "idempotent": False,
        "timeout_seconds": 60,
    }


@asynccontextmanager
async def work(hub: Hub, site: str) -> AsyncIterator[list[str]]:
    """Keep a site at work until the block is left, and then until all of it is done; yields what has been done."""
    done: list[str] = []
    begun, leaving = asyncio.Event(), asyncio.Event()

    async def keep_busy() -> None:
        while not leaving.is_set():
            tasks = [{"kind": "noop", "site": site} for _ in range(TASKS_AT_ONCE)]
            answer = await hub.http.post("/api/tasks/batch", json=tasks)
            for task in answer.raise_for_status().json()["items"]:
                assert (await hub.task(task["id"]))["state"] == "succeeded"
                done.append(task["id"])
                begun.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_busy())
        await begun.wait()
        yield done
        leaving.set()


async def until_running(hub: Hub, task: str) -> None:
    async with asyncio.timeout(30):
        while (await shown(hub, task))["state"] != "running":  # noqa: ASYNC110  it is another process that changes
            await asyncio.sleep(0.05)


async def shown(hub: Hub, task: str) -> dict[str, object]:
    answer = await hub.http.get(f"/api/tasks/{task}")
    found: dict[str, object] = answer.raise_for_status().json()
    return found


async def run(house: House, *arguments: str, **settings: str) -> str:
    """Run `edge-hub` with the settings of the house's hub; return what it prints."""
    code, said = await attempt(house, *arguments, **settings)
    assert code == 0, said
    return said


async def attempt(house: House, *arguments: str, **settings: str) -> tuple[int, str]:
    database = {"HUB_DATABASE_URL": f"sqlite:///{house.folder / 'hub.db'}", "HUB_HTTP_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hub",
        *arguments,
        env=clean_environment({**database, **settings}),
        cwd=house.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    return process.returncode or 0, (out + errors if process.returncode else out).decode()
