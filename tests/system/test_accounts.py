"""Accounts as people give them: by commands, to a broker that knows nobody, for real agents; and who is kept out."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from broker.local import find_client, free_port
from tests.support.programs import House, Hub, clean_environment
from tests.support.secure_broker import SecureBroker
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass(frozen=True)
class Said:
    """What a command has answered, what else it has said, and its exit code."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Grounds:
    """A house with a broker that lets nobody in but by the hub."""

    house: House
    broker: SecureBroker

    @property
    def folder(self) -> Path:
        return self.house.folder

    @property
    def hub_settings(self) -> dict[str, str]:
        return {f"HUB_{name.upper()}": str(value) for name, value in self.broker.hub_settings.items()}

    async def hub(self) -> Hub:
        return await self.house.hub(**self.hub_settings)

    async def edge_hub(self, *arguments: str) -> Said:
        """Run `edge-hub` on the hub's database, with or without a hub that runs."""
        database = {"HUB_DATABASE_URL": f"sqlite:///{self.folder / 'hub.db'}"}
        return await run("hub", *arguments, environment={**self.hub_settings, **database})

    async def enrolled(self, hub: Hub, worker: str, site: str = "site-a") -> None:
        token = await self.edge_hub("workers", "enrol", "--site", site)
        assert token.code == 0, token.err
        arguments = ("--hub", str(hub.http.base_url), "--worker", worker, "--token", token.out.strip())
        offline = {"WORKER_OFFLINE_DIR": str(self.folder / worker)}
        said = await run("edge_agent", "enrol", *arguments, environment=offline)
        assert said.code == 0, said.err

    def agent_settings(self, hub: Hub, **more: str) -> dict[str, str]:
        """Return the settings of an agent that knows nothing but its hub: an empty one is not given."""
        return {"WORKER_BROKER_URL": "", "WORKER_CONTROL_PLANE_URL": str(hub.http.base_url).rstrip("/"), **more}


async def run(program: str, *arguments: str, environment: dict[str, str]) -> Said:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", program, *arguments),
        env=clean_environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    return Said(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def grounds(tmp_path: Path) -> AsyncIterator[Grounds]:
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(SecureBroker(tmp_path, persistent=True))
        yield Grounds(House(tmp_path, broker, stack), broker)


async def recorded(grounds: Grounds, action: str) -> dict[str, Any]:
    """Return the newest line of the audit trail on `action`, once there is one: a worker takes HTTP after 30 s."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        while not (said := await grounds.edge_hub("audit", "--action", action, "--json")).out:
            assert said.code == 0, said.err
    line: dict[str, Any] = json.loads(said.out.splitlines()[-1])
    return line


async def test_by_http_a_worker_shows_its_account_and_one_with_anothers_is_refused_and_recorded(
    grounds: Grounds,
) -> None:
    hub = await grounds.hub()
    await grounds.enrolled(hub, "w1")
    taken = json.loads((grounds.folder / "w1" / "credentials.json").read_text())
    (grounds.folder / "password").write_text(taken["password"])
    stolen = {"WORKER_USERNAME": "w1", "WORKER_PASSWORD_FILE": str(grounds.folder / "password")}
    thief = await grounds.house.agent_process("w9", "site-b", **grounds.agent_settings(hub, **stolen))
    blocked = grounds.agent_settings(hub, WORKER_BROKER_URL=f"mqtt://127.0.0.1:{free_port()}")
    agent = await grounds.house.agent_process("w1", "site-a", **blocked)

    await thief.logged("the broker refuses the account 'w1' with the client id 'w9'")
    line = await recorded(grounds, "link.refused")
    assert (line["who"], line["target"], line["outcome"]) == ("worker:w1", "w9 at site-b", "refused")
    await thief.logged("this is the account of w1 at site-a, and the exchange is of w9 at site-b")

    await agent.logged(r"\bonline\b")
    await hub.post({"id": "by-http", "kind": "noop", "worker": "w1", "params": {"n": 2}})
    assert (await hub.task("by-http"))["result"] == {"n": 2}
    assert [one["id"] for one in await hub.items("/api/workers")] == ["w1"]
    assert await agent.stop() == 0
    assert await thief.stop() == 0


async def test_integrations_get_accounts_by_a_command(grounds: Grounds) -> None:
    first = await grounds.edge_hub("accounts", "add", "node-red", "--site", "site-a")  # before a hub has ever run
    assert first.code == 0, first.err
    hub = await grounds.hub()
    await grounds.enrolled(hub, "w1")
    agent = await grounds.house.agent("w1", "site-a", **grounds.agent_settings(hub))

    send = "node-red", "edge/v1/sites/site-a/tasks", json.dumps({"id": "by-node-red", "kind": "noop"})
    assert await mosquitto_pub(grounds, first.out.strip(), *send) == 0
    await hub.program.logged("by-node-red")
    assert (await hub.task("by-node-red"))["state"] == "succeeded"

    rotated = await grounds.edge_hub("accounts", "rotate", "node-red")
    assert rotated.out != first.out
    seen = len(hub.program.lines)
    assert (await grounds.edge_hub("accounts", "revoke", "node-red")).out == "node-red is revoked\n"
    await hub.program.logged(r"accounts_brought_to_the_broker.*commands=2 ", after=seen)
    assert await mosquitto_pub(grounds, rotated.out.strip(), *send) != 0
    listed = json.loads((await grounds.edge_hub("accounts", "list", "--json")).out)["items"]
    assert [(one["name"], one["kind"], one["generation"], one["revoked_at"] is None) for one in listed] == [
        ("node-red", "publisher", 2, False),
        ("w1", "worker", 1, True),
    ]
    assert await agent.stop() == 0


async def mosquitto_pub(grounds: Grounds, password: str, name: str, topic: str, payload: str) -> int:
    """Publish as an integration does: its client id must be its name. Return the exit code."""
    port = str(grounds.broker.port)
    login = ("-i", name, "-u", name, "-P", password)
    command = (find_client("mosquitto_pub"), "-V", "5", "-p", port, *login, "-q", "1", "-t", topic, "-m", payload)
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await process.wait()
