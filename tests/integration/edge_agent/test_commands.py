"""Commands in a whole agent: what bad ones do to it, and what it keeps of their output."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import new_id
from broker.messages import Cancel, LogPart, Outcome, ReadLog
from broker.topics import Control, Reply
from edge_agent import Agent, TaskContext
from tests.integration.edge_agent.test_process import born, process
from tests.support.needs import missing

if TYPE_CHECKING:
    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio

SHELL = ("sh -c *",)


def command(task: str, *argv: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"id": task, "kind": "command", "params": {"argv": [*argv]}, **more}


async def log_of(stage: Stage, task: str, **more: Any) -> LogPart:  # noqa: ANN401
    """Ask for a log as the hub does."""
    path = f"test/{new_id()}"
    order = ReadLog(request="r1", reply=stage.hub.topics.build(Reply(path)), task=task, attempt=1, offset=0, **more)
    await stage.hub.publish(Control(stage.site, f"{stage.site}-w"), order)
    (found, _), *_ = await stage.hub.until(lambda: stage.hub.replies(path))
    return LogPart.model_validate(found)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"argv": ["rm", "-r", "/"]}, "WORKER_ALLOW_COMMANDS does not allow 'rm -r /'"),
        ({"argv": ["cat", "/srv/../etc/shadow"]}, "WORKER_ALLOW_COMMANDS does not allow 'cat /srv/../etc/shadow'"),
        ({"argv": ["true"], "cwd": "/"}, "WORKER_COMMAND_DIRS does not allow '/'"),
        ({"argv": ["true"], "cwd": "/srv/../etc"}, 'params.cwd is "/srv/../etc": expected an absolute path'),
        (
            {"argv": ["true"], "env": {"LD_PRELOAD": "x.so"}},
            'is "LD_PRELOAD": expected a name that does not choose',
        ),
    ],
)
async def test_what_may_not_run_ends_with_its_reason_and_holds_no_slot(
    stage: Stage, params: dict[str, Any], reason: str
) -> None:
    async with stage.synced(slots=1, allow_commands=("cat /srv/*", "true", *SHELL)) as app:
        await stage.hub.inject_to(app.name.worker, {"id": "bad", "kind": "command", "params": params})
        await stage.hub.inject_to(app.name.worker, command("good", "sh", "-c", "echo good"))
        assert (await stage.hub.ended("good")).outcome is Outcome.SUCCEEDED
        refused = [one.reason for one in stage.hub.rejected()]
        refused += [one.reason for one in stage.hub.declined().values()]
        assert len(refused) == 1
        assert reason in refused[0]
        assert app.runner.running == []


async def test_a_fork_bomb_ends_with_its_time_and_harms_nobody_beside_it(stage: Stage) -> None:
    if os.geteuid() != 0:
        missing("root, to run a command as another user")
    bomb = "bomb() { while :; do sleep 60 & bomb & done; }; bomb & exec sleep 60"
    async with stage.synced(slots=2, allow_commands=SHELL, command_user="nobody", command_processes=200) as app:
        await stage.hub.inject(command("bomb", "sh", "-c", bomb, timeout_seconds=2))
        await stage.hub.until(lambda: stage.hub.accepted().get("bomb"))
        for number in range(10):
            await stage.hub.inject({"id": f"beside-{number}", "kind": "noop"})
            assert (await stage.hub.ended(f"beside-{number}")).outcome is Outcome.SUCCEEDED
        assert (await stage.hub.ended("bomb")).outcome is Outcome.TIMED_OUT
        assert app.runner.running == []
        await stage.hub.inject([command(f"after-{number}", "sh", "-c", "id -un") for number in range(2)])
        for number in range(2):
            after = await stage.hub.ended(f"after-{number}")
            assert after.result == {"exit_code": 0, "output": "nobody\n", "truncated": False}


async def test_its_log_is_there_while_it_runs_and_says_when_it_is_whole(stage: Stage) -> None:
    async with stage.synced(allow_commands=SHELL) as app:
        await stage.hub.inject(command("t1", "sh", "-c", "echo begun; sleep 600"))
        await stage.hub.until(lambda: stage.hub.accepted().get("t1"))
        part = await log_of(stage, "t1", wait_seconds=10)
        assert (part.content, part.kept, part.open) == (b"begun\n", True, True)
        await stage.hub.publish(Control(stage.site, app.name.worker), Cancel(task="t1", attempt=1))
        assert (await stage.hub.ended("t1")).outcome is Outcome.CANCELLED
        part = await log_of(stage, "t1")
        assert (part.content, part.size, part.open) == (b"begun\n", 6, False)
        none = await log_of(stage, "no-such")
        assert (none.kept, none.open, none.size) == (False, False, 0)


async def test_an_agent_that_is_killed_leaves_the_log_and_not_the_command(stage: Stage) -> None:
    settings = {"WORKER_ID": f"{stage.site}-w", "WORKER_ALLOW_COMMANDS": '["sh -c *"]'}
    async with process(stage, **settings) as running:
        worker = await born(stage)
        await stage.hub.come_online()
        await stage.hub.sync(worker)
        script = "echo begun; exec setsid sh -c 'trap \"\" TERM; sleep 98765; :'"
        await stage.hub.inject_to(worker, command("t1", "sh", "-c", script, idempotent=False))
        await stage.hub.until(lambda: stage.hub.accepted().get("t1"))
        assert (await log_of(stage, "t1", wait_seconds=10)).content == b"begun\n"
        running.send_signal(signal.SIGKILL)
        await running.wait()
    async with process(stage, **settings):
        await stage.hub.until(lambda: len({one.boot for one in stage.hub.births(worker)}) > 1)
        await stage.hub.sync(worker)
        assert (await stage.hub.ended("t1")).outcome is Outcome.INTERRUPTED
        assert (await log_of(stage, "t1")).content == b"begun\n"
        left = await asyncio.to_thread(subprocess.run, ["pgrep", "-f", "sleep 98765"], capture_output=True, check=False)
        assert left.stdout == b""


async def test_a_handler_writes_its_log_from_a_thread(stage: Stage) -> None:
    agent = Agent()

    @agent.task("count")
    def count(ctx: TaskContext, to: int) -> None:
        for number in range(to):
            ctx.output(f"{number}\n")

    async with stage.synced(agents=[agent]):
        await stage.hub.inject({"id": "t1", "kind": "count", "params": {"to": 1000}})
        assert (await stage.hub.ended("t1")).outcome is Outcome.SUCCEEDED
        part = await log_of(stage, "t1")
        assert part.content.splitlines() == [str(number).encode() for number in range(1000)]
