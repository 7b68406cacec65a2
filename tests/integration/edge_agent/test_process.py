"""The agent as a process: how it starts, how it is killed, and what a half-finished database becomes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from broker.messages import Outcome, TaskSpec, Via, digest
from edge_agent.rules.attempts import Held, Ref
from edge_agent.store import inbox
from edge_agent.store.database import Database
from edge_agent.store.journal import Journal
from tests.integration.edge_agent.stage import PATIENCE_SECONDS

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def process(stage: Stage, **variables: str) -> AsyncIterator[Process]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WORKER_")},
        "PYTHONPATH": os.pathsep.join(sys.path),
        "WORKER_SITE": stage.site,
        "WORKER_BROKER_URL": stage.broker_url,
        "WORKER_OFFLINE_DIR": str(stage.directory / "offline"),
        **variables,
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_agent", "run", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def born(stage: Stage) -> str:
    """Wait for the first birth at the site, and return the worker's name."""
    found = await stage.hub.until(lambda: [one.address for one in stage.hub.seen if b'"online"' in one.payload])
    return str(getattr(found[0], "worker", ""))


async def test_a_killed_agent_is_offline_at_once_by_its_will(stage: Stage) -> None:
    async with process(stage) as running:
        worker = await born(stage)
        began = asyncio.get_running_loop().time()
        running.kill()
        await stage.hub.until(lambda: stage.hub.statuses(worker)[-1]["state"] == "offline")
        assert asyncio.get_running_loop().time() - began < 2


async def test_sigterm_stops_it_in_order_and_its_name_is_kept(stage: Stage) -> None:
    names = set()
    for _ in range(2):
        stage.hub.seen.clear()
        async with process(stage) as running:
            worker = await born(stage)
            names.add(worker)
            running.send_signal(signal.SIGTERM)
            await stage.hub.until(lambda name=worker: stage.hub.statuses(name)[-1]["state"] == "stopped")  # type: ignore[misc]
            assert await asyncio.wait_for(running.wait(), PATIENCE_SECONDS) == 0
    assert len(names) == 1
    assert names.pop().startswith("worker-")


async def test_its_settings_are_logged_one_to_a_line_with_secrets_masked(stage: Stage) -> None:
    async with process(stage, WORKER_PASSWORD="hunter2", WORKER_SITES="x") as running:  # noqa: S106  an example
        await born(stage)
        running.send_signal(signal.SIGTERM)
        _, errors = await running.communicate()
    text = errors.decode()
    assert "control_plane_url=http://localhost:8000\n" in text
    assert f"database={stage.directory / 'offline' / 'journal.db'}\n" in text
    assert "WORKER_SITES is no setting; did you mean WORKER_SITE?" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SLOTS", "-3"), ("PLUGINS", "no.such.module"), ("OFFLINE_DIR", "/proc/none/offline"), ("BROKER_URL", "x")],
)
async def test_a_wrong_setting_ends_it_with_one_line_and_code_2(stage: Stage, variable: str, value: str) -> None:
    async with process(stage, **{f"WORKER_{variable}": value}) as running:
        _, errors = await running.communicate()
        assert running.returncode == 2
    assert errors.decode().startswith(f"WORKER_{variable} is '{value}': expected ")
    assert errors.count(b"\n") == 1


async def test_a_second_agent_in_the_same_directory_is_refused(stage: Stage) -> None:
    async with process(stage):
        await born(stage)
        async with process(stage) as second:
            _, errors = await second.communicate()
            assert second.returncode == 2
    assert b"no other running agent" in errors


async def test_what_ran_when_it_died_was_interrupted_and_what_waited_runs(stage: Stage) -> None:
    await half_finished(stage.directory / "w")
    async with stage.synced():
        assert (await stage.hub.ended("ran")).outcome is Outcome.INTERRUPTED
        assert (await stage.hub.ended("waited")).outcome is Outcome.SUCCEEDED
        assert (await stage.hub.ended("late")).outcome is Outcome.EXPIRED
        gone = await stage.hub.ended("gone")
    assert gone.error == "nosuchkind does not run here any more"


async def half_finished(directory: Path) -> None:
    """Write the database of an agent that died."""
    database = Database(directory / "journal.db")
    database.open()
    await Journal(database).load()
    specs = {
        "ran": TaskSpec(kind="noop"),
        "waited": TaskSpec(kind="noop"),
        "late": TaskSpec(kind="noop", expires_in_seconds=1.0),
        "gone": TaskSpec(kind="nosuchkind"),
    }
    attempts = [
        Held(Ref(name, 1), spec, digest(spec), 1000, Via.SITE, running=name == "ran") for name, spec in specs.items()
    ]
    await database.commit(partial(inbox.hold, attempts=attempts))
    await database.close()
