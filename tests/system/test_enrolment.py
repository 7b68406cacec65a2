"""A worker's way in and out, with whole programs: TLS everywhere, the plugin at the broker, the hub's own authority."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import pytest

from broker.account import Account
from broker.errors import LinkDown, Refused
from broker.link import Link
from broker.topics import Events, Topics
from edge_agent import credentials
from edge_agent.http_link import HttpLink
from tests.support.brokers import production
from tests.support.programs import PATIENCE_SECONDS, House, clean_environment
from tests.support.secured import made, of_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge_agent.credentials import Credentials
    from tests.support.programs import Program

FORGED = "f" * 43


@dataclass
class Town:
    """A broker and a hub as a careful operator sets them up, and hosts that know nothing yet."""

    house: House
    place: Path
    settings: dict[str, str]
    hub: Program
    url: str

    async def edge_hub(self, *arguments: str) -> str:
        """Run a command of the hub, which must do; return what it prints."""
        code, out, said = await run("hub", arguments, self.settings)
        assert code == 0, said
        return out.strip()

    async def token(self, *arguments: str) -> str:
        return await self.edge_hub("workers", *(arguments or ("enrol", "--site", "site-a")))

    async def enrol(self, host: str, token: str, *arguments: str) -> tuple[int, str, str]:
        """Run `edge-agent enrol` on a host."""
        given = ("enrol", "--hub", self.url, "--token", token, "--worker", host, *arguments)
        return await run("edge_agent", given, self.of(host))

    async def agent(self, host: str) -> Program:
        """Start an agent that is told nothing but where its own files are."""
        return await self.house._start(host, ["-m", "edge_agent", "run"], self.of(host))  # noqa: SLF001

    async def ask(self, host: str, *arguments: str) -> tuple[int, str, str]:
        """Run another command of `edge-agent` on a host."""
        return await run("edge_agent", arguments, self.of(host))

    async def says(self, host: str, words: str) -> None:
        """Wait until `edge-agent status` says something of an agent that lives: it is told within a second."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                code, out, _ = await self.ask(host, "status")
                if code == 0 and words in out:
                    return

    def of(self, host: str) -> dict[str, str]:
        folder = self.house.folder / host
        return {
            "WORKER_OFFLINE_DIR": str(folder),
            "WORKER_STATUS_FILE": str(self.house.folder / f"{host}-status.json"),
            "WORKER_HEARTBEAT_INTERVAL_SECONDS": "1",
            "WORKER_LOG_LEVEL": "debug",
        }

    def given(self, host: str) -> Credentials:
        found = credentials.read(self.house.folder / host / "credentials.json")
        assert found is not None
        return found

    async def recorded(self, action: str) -> list[dict[str, str]]:
        """Return what the hub has written down of an action, once there is anything."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                out = await self.edge_hub("audit", "--action", action, "--json")
                if out:
                    return [json.loads(line) for line in out.splitlines()]


async def run(package: str, arguments: tuple[str, ...], settings: dict[str, str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", package, *arguments),
        env=clean_environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    place = made(tmp_path / "broker")
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(production(place, tmp_path))
        house = House(tmp_path, broker, stack)
        settings = of_hub(
            place,
            BROKER_URL=f"mqtts://localhost:{broker.port}",
            MANAGE_ACCOUNTS="true",
            HTTP_PORT="0",
            HTTP_TLS_CERTIFICATE=str(place / "mosquitto" / "server.crt"),
            HTTP_TLS_KEY=str(place / "mosquitto" / "server.key"),
            DATABASE_URL=f"sqlite:///{tmp_path / 'hub.db'}",
            LOG_LEVEL="debug",
        )
        hub = await house._start("hub", ["-m", "hub", "serve"], settings)  # noqa: SLF001
        url = (await hub.logged(r"hub_ready.*?url=(\S+)"))[1].replace("127.0.0.1", "localhost")
        await hub.logged("broker_connected")
        yield Town(house, place, settings, hub, url.replace("http:", "https:"))


async def test_a_worker_is_let_in_renewed_and_thrown_out(town: Town) -> None:
    code, out, err = await town.enrol("w1", await town.token())
    assert (code, err) == (0, "")
    assert out.startswith(f"w1 at site-a is enrolled with {town.url}\n")
    agent = await town.agent("w1")
    await agent.logged(r"\bonline\b")
    async with httpx.AsyncClient(base_url=town.url, verify=_trusting(town)) as http:
        await http.post("/api/tasks", json={"id": "t1", "kind": "noop", "site": "site-a"})
        assert (await http.get("/api/tasks/t1/wait", params={"timeout": 30})).json()["state"] == "succeeded"
    await _is_well(town)

    before = len(agent.lines)
    token = await town.token("rotate", "w1")
    assert (await town.enrol("w1", token, "--replace"))[0] == 0
    await agent.logged("credentials_taken", after=before)
    await agent.logged(r"\bonline\b", after=before)

    before = len(agent.lines)
    await town.edge_hub("workers", "revoke", "w1")
    line = await agent.logged(
        r"broker_link_down.*the broker refuses the account 'w1' with the client id 'w1'", after=before
    )
    assert "edge-agent enrol --replace" in line.string
    await town.says("w1", "reason       the broker refuses the account 'w1'")  # it lives, and works alone
    code, out, _ = await town.ask("w1", "doctor")
    assert code == 1
    assert "refuses the account 'w1'" in " ".join(out.split())
    assert [one["target"] for one in await town.recorded("worker.enrolled")] != []
    assert await agent.stop() == 0


def _trusting(town: Town) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(town.place / "ca.crt"))


async def _is_well(town: Town) -> None:
    """See what the doctor and the status say while all is well."""
    await town.says("w1", "w1 at site-a: online")
    code, out, _ = await town.ask("w1", "doctor", "--json")
    bad = [one for one in json.loads(out)["findings"] if one["level"] == "bad"]
    assert (code, bad) == (0, [])


async def test_tokens_that_are_no_good_are_refused_told_and_recorded(town: Town) -> None:
    good, other, revoked = await asyncio.gather(town.token(), town.token("enrol", "--site", "site-b"), town.token())
    await town.edge_hub("workers", "revoke", "--token", revoked.split("_")[1])
    forged = "_".join([*good.split("_")[:2], FORGED, good[-32:]])
    assert (await town.enrol("t1", good))[0] == 0
    asked = {
        "used": town.enrol("t2", good),
        "another site's": town.enrol("t3", other, "--site", "site-a"),
        "revoked": town.enrol("t4", revoked),
        "forged": town.enrol("t5", forged),
        "taken": town.enrol("t1", other, "--replace"),
    }
    told = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
    lines = {why: err for why, (code, out, err) in told.items() if (code, out) == (1, "")}
    assert lines.keys() == told.keys(), told
    begin = f"{town.url} does not enrol this worker: "
    assert all(line.startswith(begin) and line.count("\n") == 1 for line in lines.values())
    said = {why: line.removeprefix(begin).strip() for why, line in lines.items()}
    assert said["used"].startswith(f"token {good.split('_')[1]} was used by t1, and is good for one worker; ask for")
    assert said["revoked"].startswith(f"token {revoked.split('_')[1]} was revoked; ask for another")
    assert said["forged"] == "token is none that this hub has made: check that all of it was copied"
    assert "site-b" in said["another site's"]
    assert len(await town.recorded("enrol.refused")) == len(told)

    code, _, err = await town.enrol("u1", f"{good[:-32]}{'0' * 32}")
    assert code == 1
    assert err.startswith(f"{begin}{town.url} does not show the authority that the token names (SHA-256 0000")
    assert err.rstrip().endswith("the token was not sent")
    assert len(await town.recorded("enrol.refused")) == len(told), "the hub has not seen it"


async def refused_by(link: Link) -> Refused:
    """Return how a broker refuses a client; a handshake that breaks off on a busy machine is tried again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                async with link.connect():
                    pytest.fail("it was let in")
            except Refused as refused:
                return refused
            except LinkDown:
                gc.collect()  # paho 2 leaves the socket of the handshake open


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_worker_is_nobody_else_by_mqtt_nor_by_http(town: Town) -> None:
    await town.enrol("n1", await town.token())
    given = town.given("n1")
    account = given.account()

    as_another = await refused_by(Link(url=given.broker_url, client_id="n2", account=account))
    assert as_another.reason == "the broker refuses the account 'n1' with the client id 'n2'"
    topic = Topics().build(Events("site-b", "n1"))
    async with Link(url=given.broker_url, client_id="n1", account=account).connect() as connection:
        with pytest.raises(Refused, match=f"the broker refuses to take {topic}: not authorized"):
            await connection.publish(topic, b"{}")
        with pytest.raises(Refused, match=r"the broker refuses to subscribe .*: not authorized"):
            await connection.subscribe(Topics().all_of_sites())

    link = HttpLink(url=given.hub, site="site-a", worker="n1", root="edge", poll_interval_seconds=1, account=account)
    async with link.connect():
        pass
    for wrong, said in (
        (replace(link, site="site-b"), "the hub answered 403"),
        (replace(link, worker="n2"), "the hub answered 403"),
        (replace(link, account=replace(account, password=FORGED)), "the hub answered 401"),
        (replace(link, account=Account(tls_ca_text=given.ca)), "the hub answered 401"),
    ):
        with pytest.raises(LinkDown, match=said):
            async with wrong.connect():
                pass
    assert await town.recorded("link.refused")
