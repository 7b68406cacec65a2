"""Commands: what they give back, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from broker.messages import Outcome
from edge_agent.context import TaskContext
from edge_agent.execution import Execution
from edge_agent.executors.bounds import Bounds
from edge_agent.executors.command import Command
from edge_agent.executors.leftover import MARK
from edge_agent.executors.output import OUTPUT_BYTES
from edge_agent.logs import Logs
from edge_agent.rules.attempts import Ref
from edge_agent.rules.environment import PASSED
from edge_agent.rules.policy import parse

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.context import Output
    from edge_agent.rules.attempts import Ending

pytestmark = pytest.mark.anyio

PYTHON = sys.executable


async def run(
    *argv: str,
    timeout_seconds: float | None = None,
    bounds: Bounds | None = None,
    grace_seconds: float = 5.0,
    log: Output | None = None,
    **params: Any,  # noqa: ANN401
) -> Ending:
    """Run a command as the agent does, where it is allowed with any arguments."""
    executor = Command(parse([f"{argv[0]} **"]), bounds, grace_seconds=grace_seconds)
    given = {"argv": [*argv], **params}
    assert executor.problems(given) == []
    assert executor.refusal(given) is None
    context = TaskContext("test", 1, report=lambda _: None, clock=now_ms, log=log)
    return await Execution(executor, context, timeout_seconds=timeout_seconds).run(given)


def output(done: Ending) -> str:
    assert isinstance(done.result, dict)
    return str(done.result["output"])


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


async def test_stdin_cwd_and_env_are_given(tmp_path: Path) -> None:
    done = await run(
        "sh",
        "-c",
        "cat; pwd; env",
        stdin="in\n",
        cwd=str(tmp_path),
        env={"GIVEN": "given"},
        bounds=Bounds(dirs=(tmp_path.parent,)),
    )
    lines = output(done).splitlines()
    assert lines[:2] == ["in", str(tmp_path)]
    assert "GIVEN=given" in lines


async def test_nothing_of_the_agents_environment_is_seen_but_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKER_PASSWORD", "AWS_SECRET_ACCESS_KEY", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "PASSED"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    done = await run("env", bounds=Bounds(passed=frozenset({"PASSED"})))
    seen = dict(line.partition("=")[::2] for line in output(done).splitlines())
    assert seen.keys() <= PASSED | {"LC_TIME", "LC_ALL", "LC_CTYPE", "PASSED", MARK}
    assert seen["LC_TIME"] == "C"
    assert seen["PATH"].startswith("/"), "a sender chooses the directory, and so what '.' is"


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "WORKER_ID", "HOLDFAST_RUN"])
def test_a_task_may_not_choose_what_an_allowed_command_is(name: str) -> None:
    (problem,) = Command(parse(["true"])).problems({"argv": ["true"], "env": {name: "x"}})
    assert str(problem).startswith(f"params.env.{name}")
    assert f'is "{name}": expected a name that does not choose what is run' in str(problem)


@pytest.mark.parametrize("cwd", ["relative", "../up", "/srv/../etc", "/srv/.."])
def test_a_directory_is_an_absolute_path_that_leads_nowhere_else(cwd: str) -> None:
    (problem,) = Command(parse(["true"])).problems({"argv": ["true"], "cwd": cwd})
    assert str(problem) == f"params.cwd is \"{cwd}\": expected an absolute path without '..'"


async def test_a_directory_must_be_listed_wherever_its_links_lead(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    (allowed / "below").mkdir(parents=True)
    other.mkdir()
    (allowed / "link").symlink_to(other)
    command = Command(parse(["pwd"]), Bounds(dirs=(allowed,)))
    assert command.refusal({"argv": ["pwd"], "cwd": str(allowed / "below")}) is None
    for cwd in (other, allowed / "link", tmp_path, "/"):
        assert command.refusal({"argv": ["pwd"], "cwd": str(cwd)}) == f"WORKER_COMMAND_DIRS does not allow {str(cwd)!r}"
    assert Command(parse(["pwd"])).refusal({"argv": ["pwd"], "cwd": "/"}) == "WORKER_COMMAND_DIRS does not allow '/'"


async def test_its_output_goes_to_the_log_as_it_comes(tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    os.mkfifo(go_on)
    seen = asyncio.Event()

    class Log:
        text = b""

        def write(self, data: bytes) -> None:
            self.text += data
            seen.set()

        async def drained(self) -> None:
            pass

        async def size(self) -> int:
            return len(self.text)

    log = Log()
    running = asyncio.create_task(run("sh", "-c", f"echo first; cat {go_on}; echo last >&2", log=log))
    async with asyncio.timeout(15):
        await seen.wait()
    assert log.text == b"first\n"
    await asyncio.to_thread(go_on.write_text, "")
    assert output(await running) == "first\nlast\n"
    assert log.text == b"first\nlast\n"


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


async def test_one_that_is_cut_short_tells_what_it_has_said_by_then() -> None:
    talk = "trap 'echo last words; exit 3' TERM; echo first; sleep 600 & wait"
    done = await run("sh", "-c", talk, timeout_seconds=0.5)
    assert done.outcome is Outcome.TIMED_OUT
    assert done.result == {"exit_code": None, "output": "first\nlast words\n", "truncated": False}


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


async def test_one_that_does_not_hear_sigterm_is_killed() -> None:
    started = asyncio.get_running_loop().time()
    done = await run("sh", "-c", "trap '' TERM; while :; do sleep 1; done", timeout_seconds=0.3, grace_seconds=0.2)
    assert done.outcome is Outcome.TIMED_OUT
    assert asyncio.get_running_loop().time() - started < 5


async def test_what_a_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    done = await run("sh", "-c", f"sleep 600 & echo $! > {file}")
    assert done.outcome is Outcome.SUCCEEDED
    assert await has_ended(int(file.read_text()))


async def test_one_that_has_left_the_group_is_ended_too_with_or_without_a_time_limit(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    escape = f"setsid sh -c 'trap \"\" TERM; echo $$ > {file}; echo away; while :; do sleep 600; done' & "
    done = await run("sh", "-c", f"{escape} while ! test -s {file}; do sleep 0.01; done", grace_seconds=0.3)
    assert done.outcome is Outcome.SUCCEEDED
    assert output(done).startswith("away\n")  # its shell may have the time to say that its sleep was killed
    assert await has_ended(int(file.read_text()))

    file.unlink()
    done = await run("sh", "-c", f"{escape} wait", timeout_seconds=0.5, grace_seconds=0.3)
    assert done.outcome is Outcome.TIMED_OUT
    assert await has_ended(int(file.read_text()))


async def test_of_a_flood_the_end_is_kept_in_flat_memory(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs", max_bytes=1_000_000, max_total_bytes=10_000_000)
    tracemalloc.start()
    try:
        flood = "import sys; [sys.stdout.write('x' * 65536) for _ in range(800)]; print('end')"
        done = await run(PYTHON, "-c", flood, log=logs.begin(Ref("test", 1)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await logs.close()
    assert isinstance(done.result, dict)
    assert done.result["truncated"]
    assert output(done).endswith("xend\n")
    assert len(output(done)) == OUTPUT_BYTES
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


async def test_what_an_earlier_run_of_the_agent_let_in_runs_only_if_this_one_allows_it(tmp_path: Path) -> None:
    made = tmp_path / "made"
    context = TaskContext("test", 1, report=lambda _: None, clock=now_ms)
    done = await Execution(Command(parse(["uptime"])), context).run({"argv": ["touch", str(made)]})

    assert (done.outcome, done.error) == (Outcome.FAILED, f"WORKER_ALLOW_COMMANDS does not allow 'touch {made}'")
    assert not made.exists()
