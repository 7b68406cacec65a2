"""What bounds every command: whom it runs as, and how many processes it may have. Some of it takes root."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from broker.clock import now_ms
from broker.errors import SettingsError
from broker.messages import Outcome
from edge_agent.context import TaskContext
from edge_agent.execution import Execution
from edge_agent.executors.bounds import Bounds
from edge_agent.executors.command import Command
from edge_agent.rules.policy import parse
from tests.support.needs import missing

if TYPE_CHECKING:
    from edge_agent.rules.attempts import Ending

pytestmark = pytest.mark.anyio

SOMEBODY = "nobody"

BOMB = "bomb() { while :; do sleep 60 & bomb & done; }; bomb & exec sleep 60"
"""Each process goes on starting others, and a shell that cannot ends: without a bound there is no end to them."""


@pytest.fixture
def somebody() -> pwd.struct_passwd:
    """A user as whom tests may run things, and of whom no more than a few processes are there."""
    if os.geteuid() != 0:
        missing("root, to run a command as another user")
    return pwd.getpwnam(SOMEBODY)


def bounds(*, user: str | None = None, processes: int | None = None) -> Bounds:
    return Bounds.of(dirs=(), passed=(), user=user, processes=processes)


async def run(*argv: str, bounds: Bounds, timeout_seconds: float | None = None) -> Ending:
    executor = Command(parse([f"{argv[0]} **"]), bounds, grace_seconds=0.5)
    context = TaskContext("test", 1, report=lambda _: None, clock=now_ms)
    return await Execution(executor, context, timeout_seconds=timeout_seconds).run({"argv": [*argv]})


def home_of(user: pwd.struct_passwd) -> str:
    return user.pw_dir if Path(user.pw_dir).is_dir() else "/"


def processes_of(user: int) -> int:
    """Count what runs: who has ended and was not reaped, as nobody may do in a container, is none."""
    found = (one.info for one in psutil.process_iter(["uids", "status"]))
    return sum(one["uids"] and one["uids"].real == user and one["status"] != psutil.STATUS_ZOMBIE for one in found)


async def test_it_runs_as_another_user_with_his_groups_and_his_home(somebody: pwd.struct_passwd) -> None:
    done = await run("sh", "-c", "id -un; id -Gn; echo $HOME $USER; pwd", bounds=bounds(user=SOMEBODY))
    assert isinstance(done.result, dict)
    name, groups, told, folder = str(done.result["output"]).splitlines()
    assert (name, told, folder) == (SOMEBODY, f"{home_of(somebody)} {SOMEBODY}", home_of(somebody))
    assert "root" not in groups.split()


async def test_he_cannot_read_what_is_the_agents(somebody: pwd.struct_passwd, tmp_path: Path) -> None:
    assert somebody.pw_uid
    secret = tmp_path / "secret"
    secret.touch(0o600)
    assert (await run("cat", str(secret), bounds=bounds(user=SOMEBODY))).error == "exit code 1"


def test_a_user_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match='WORKER_COMMAND_USER is "no-such-user": expected the name of a user'):
        bounds(user="no-such-user")


def test_only_root_may_run_things_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(SettingsError, match="only root may run a program as another user"):
        bounds(user=SOMEBODY)


def test_a_limit_of_processes_that_would_bind_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SettingsError, match="WORKER_COMMAND_PROCESSES is 10: expected unset, or WORKER_COMMAND_USER"):
        bounds(processes=10)
    with pytest.raises(SettingsError, match="WORKER_COMMAND_PROCESSES"):
        bounds(user="root", processes=10)


async def test_a_fork_bomb_stays_under_its_limit_and_nothing_of_it_is_left(somebody: pwd.struct_passwd) -> None:
    before = processes_of(somebody.pw_uid)
    limit = before + 40
    running = asyncio.create_task(
        run("sh", "-c", BOMB, bounds=bounds(user=SOMEBODY, processes=limit), timeout_seconds=2)
    )
    most = 0
    while not running.done():
        most = max(most, await asyncio.to_thread(processes_of, somebody.pw_uid))
        await asyncio.wait([running], timeout=0.05)
    assert (await running).outcome is Outcome.TIMED_OUT
    assert before < most <= limit
    assert processes_of(somebody.pw_uid) == before


async def test_one_without_a_limit_of_processes_ends_with_its_time() -> None:
    spread = 'for i in $(seq 300); do sh -c "setsid sleep 76543 & sleep 76543" & done; echo all; wait'
    done = await run("sh", "-c", spread, bounds=bounds(), timeout_seconds=3)
    assert done.outcome is Outcome.TIMED_OUT
    left = [one.pid for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "76543"]]
    assert left == []
