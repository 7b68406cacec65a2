"""An agent that its broker refuses: it says so once, with what to do, tries on, and takes what is given to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from broker.link import Link
from edge_agent import credentials
from edge_agent.app import App
from edge_agent.credentials import Credentials
from edge_agent.settings import WorkerSettings
from edge_agent.status import State
from tests.support.guarded import GuardedBroker, password_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PATIENCE_SECONDS = 40.0
SITE = "edge/v1/sites/site-a"
WORKER = f"{SITE}/workers/w1"
RULES = {
    "w1": [f"readwrite {WORKER}/#", f"readwrite {SITE}/tasks", "read edge/v1/hub/status"],
    "w1/intake": [f"readwrite {SITE}/tasks"],
    "w2": ["readwrite edge/v1/sites/site-b/#", "read edge/v1/hub/status"],
}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GuardedBroker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with GuardedBroker(folder, RULES) as broker:
        yield broker


@dataclass
class Running:
    """An agent that runs, and what it logged."""

    app: App
    logs: list[dict[str, Any]] = field(default_factory=list)

    def lines(self, event: str, level: str = "error") -> list[dict[str, Any]]:
        return [one for one in self.logs if one["event"] == event and one["log_level"] == level]

    async def tried(self, event: str, times: int) -> None:
        """Wait until it was refused so many times."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len([one for one in self.logs if one["event"] == event]) < times:  # noqa: ASYNC110  a list tells nobody
                await asyncio.sleep(0.05)

    async def online(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.app.online.wait()


@asynccontextmanager
async def running(broker: GuardedBroker, folder: Path, **more: Any) -> AsyncIterator[Running]:  # noqa: ANN401
    values: dict[str, Any] = {
        "broker_url": broker.url,
        "control_plane_url": "http://127.0.0.1:1",
        "offline_dir": folder / "offline",
        "stop_seconds": 0.0,
        **more,
    }
    with capture_logs() as logs:
        app = App(WorkerSettings(**values))
        app.open()
        task = asyncio.create_task(app.run())
        try:
            yield Running(app, logs)  # type: ignore[arg-type]
        finally:
            app.stop()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await task


def as_account(name: str) -> dict[str, Any]:
    return {"id": "w1", "site": "site-a", "username": name, "password": password_of(name)}


def enrolled(folder: Path, password: str = password_of("w1")) -> None:
    given = Credentials(
        worker="w1",
        site="site-a",
        username="w1",
        password=password,
        broker_url="mqtt://nowhere.invalid",
        root="edge",
        hub="http://127.0.0.1:1",
    )
    (folder / "offline").mkdir(exist_ok=True)
    credentials.write(folder / "offline" / "credentials.json", given)


async def test_an_enrolled_agent_is_online_with_both_its_accounts(guarded: GuardedBroker, tmp_path: Path) -> None:
    enrolled(tmp_path)
    async with running(guarded, tmp_path) as agent:
        await agent.online()
        assert agent.app.connecting.state is State.ALONE, "no hub is there"


async def test_an_agent_with_another_sites_account_says_it_once_and_tries_on(
    guarded: GuardedBroker, tmp_path: Path
) -> None:
    async with running(guarded, tmp_path, **as_account("w2")) as agent:
        await agent.tried("broker_link_down", 4)
        (line,) = agent.lines("broker_link_down")
        assert line["reason"] == f"the broker refuses to take {WORKER}/status: not authorized"
        assert line["remedy"] == (
            "let the account 'w2' publish there: see the broker's access rules, and that site and worker are the"
            " account's"
        )
        assert not any(one["event"] == "connected" for one in agent.logs)
        assert agent.app.connecting.state is State.CONNECTING
        assert agent.app._status().reason == line["reason"]  # noqa: SLF001  as the status file and systemd have it


async def test_an_account_that_was_rotated_away_is_told_and_a_new_one_taken_without_a_restart(
    guarded: GuardedBroker, tmp_path: Path
) -> None:
    enrolled(tmp_path)
    async with running(guarded, tmp_path) as agent:
        await agent.online()
        guarded.change_passwords({"w1": "next", "w1/intake": "next"})
        await agent.tried("broker_link_down", 3)
        line = agent.lines("broker_link_down")[0]
        assert line["reason"] == "the broker refuses the account 'w1' with the client id 'w1'"
        assert "edge-agent enrol --replace" in line["remedy"]
        enrolled(tmp_path, password="next")  # noqa: S106  an example
        await agent.online()
        assert agent.app.connecting.troubles.last is None


async def test_an_answer_that_is_refused_is_given_up_and_the_agent_stays_online(
    guarded: GuardedBroker, tmp_path: Path
) -> None:
    enrolled(tmp_path)
    async with running(guarded, tmp_path) as agent:
        await agent.online()
        account = agent.app.identity.account()
        async with Link(url=guarded.url, client_id="asks", account=account).connect() as asking:
            await asking.publish(
                f"{SITE}/tasks", b'{"id": "t1", "kind": "noop"}', reply_topic="edge/v1/replies/somebody"
            )
            await agent.tried("answer_refused", 1)
            (line,) = agent.lines("answer_refused", "warning")
            assert line["topic"] == "edge/v1/replies/somebody"
            assert agent.app.online.is_set()
