"""Commands: what they give back, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from broker.messages import Outcome
from edge_agent import Agent
from edge_agent.executors import command
from edge_agent.testing import run_task

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.testing import TaskRun

pytestmark = pytest.mark.anyio

PYTHON = sys.executable


async def run(*argv: str, timeout_seconds: float | None = None, **params: Any) -> TaskRun:  # noqa: ANN401
    return await run_task(
        Agent(),
        "command",
        {"argv": [*argv], **params},
        allow_commands=["** **"] if not argv else [f"{argv[0]} **"],
        timeout_seconds=timeout_seconds,
    )


async def test_it_gives_its_exit_code_and_both_streams() -> None:
    done = await run("sh", "-c", "echo out; echo err >&2")
    assert done.result == {"exit_code": 0, "output": "out\nerr\n", "truncated": False}


async def test_another_exit_code_is_a_failure_with_its_output() -> None:
    done = await run("sh", "-c", "echo why; exit 3")
    assert (done.outcome, done.error) == (Outcome.FAILED, "exit code 3")
    assert done.result == {"exit_code": 3, "output": "why\n", "truncated": False}


async def test_a_signal_is_named() -> None:
    assert (await run("sh", "-c", "kill -9 $$")).error == "ended by SIGKILL"


async def test_a_program_that_is_not_there_is_named() -> None:
    done = await run("no-such-program")
    assert done.outcome is Outcome.FAILED
    assert "no-such-program" in (done.error or "")


async def test_stdin_cwd_and_env_are_given_and_no_setting_of_the_agent_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_PASSWORD", "secret")
    monkeypatch.setenv("KEPT", "kept")
    done = await run("sh", "-c", "cat; pwd; env", stdin="in\n", cwd=str(tmp_path), env={"GIVEN": "given"})
    lines = done.result["output"].splitlines()  # type: ignore[index, call-overload, union-attr]
    assert lines[:2] == ["in", str(tmp_path)]
    assert {"GIVEN=given", "KEPT=kept"} <= {*lines}
    assert not any(line.startswith("WORKER_") for line in lines)


async def test_one_that_does_not_read_its_stdin_is_no_trouble() -> None:
    assert (await run("true", stdin="x" * 1_000_000)).outcome is Outcome.SUCCEEDED


async def test_a_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    done = await run(
        "sh", "-c", f"sleep 600 & echo $! >> {pids}; sh -c 'echo $$ >> {pids}; sleep 600' & wait", timeout_seconds=0.3
    )
    assert (done.outcome, done.error) == (Outcome.TIMED_OUT, "not done within 0.3 s")
    for pid in pids.read_text().split():
        assert await has_ended(int(pid))


async def test_what_it_has_started_is_ended_too_when_it_is_cancelled_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pid"
    os.mkfifo(file)
    begin = subprocess.Popen.__init__
    pids: list[int] = []

    def begin_and_cancel(*values: Any, **options: Any) -> None:  # noqa: ANN401
        begin(*values, **options)
        pids.append(int(file.read_text()))  # by now it has started another
        task.cancel()

    monkeypatch.setattr(subprocess.Popen, "__init__", begin_and_cancel)
    task = asyncio.create_task(run("sh", "-c", f"sleep 600 & echo $! > {file}; wait"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await has_ended(pids[0])


async def test_one_that_does_not_hear_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.Command.__init__, "__kwdefaults__", {"grace_seconds": 0.2})
    started = asyncio.get_running_loop().time()
    done = await run("sh", "-c", "trap '' TERM; while :; do sleep 1; done", timeout_seconds=0.3)
    assert done.outcome is Outcome.TIMED_OUT
    assert asyncio.get_running_loop().time() - started < 5


async def test_what_a_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    done = await run("sh", "-c", f"sleep 600 & echo $! > {file}")
    assert done.outcome is Outcome.SUCCEEDED
    assert await has_ended(int(file.read_text()))


async def test_of_a_flood_the_end_is_kept_in_flat_memory() -> None:
    tracemalloc.start()
    try:
        done = await run(PYTHON, "-c", "import sys; [sys.stdout.write('x' * 65536) for _ in range(800)]; print('end')")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(done.result, dict)
    assert done.result["truncated"]
    output = done.result["output"]
    assert isinstance(output, str)
    assert output.endswith("xend\n")
    assert len(output) == command.OUTPUT_BYTES
    assert peak < 4 * 1024 * 1024


async def test_output_that_is_no_text_is_told_as_far_as_it_is() -> None:
    done = await run("printf", "a\\377b")
    assert done.result == {"exit_code": 0, "output": "a\ufffdb", "truncated": False}


async def has_ended(pid: int) -> bool:
    """Wait until a process, which is no child of ours, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        return await asyncio.wait_for(ended.wait(), 5)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
