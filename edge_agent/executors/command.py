"""`command` `{argv, cwd?, env?, stdin?}`: runs what `WORKER_ALLOW_COMMANDS` lists, and nothing else.

A command has a process group of its own, so that what it has started ends with it. Its output, both streams in one, is
read to the end and the last of it is kept. If the agent dies, nobody reads it any more: what is left of the command is
ended when the agent starts again (`edge_agent.executors.leftover`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT
from typing import IO, TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from broker.log import get_logger
from edge_agent.errors import TaskFailed
from edge_agent.executors import leftover
from edge_agent.executors.base import BuiltIn, Params
from edge_agent.executors.leftover import MARK, Handle
from edge_agent.rules.policy import is_allowed

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from edge_agent.context import TaskContext
    from edge_agent.rules.policy import Pattern

OUTPUT_BYTES = 64 * 1024
"""How much of the output is kept: the end, where a failure says why."""

TERM_GRACE_SECONDS = 2.0
"""How long a group may take to end after SIGTERM; then it is killed."""

LAST_OUTPUT_SECONDS = 1.0
"""How long the output is read on after the group was ended."""

OWN_VARIABLES = "WORKER_"
_NO_NUL = r"^[^\x00]*$"

log = get_logger(__name__)

Text = Annotated[str, StringConstraints(pattern=_NO_NUL)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class CommandParams(Params):
    """What to run: `argv` as it is, with no shell in between."""

    argv: list[Text] = Field(min_length=1)
    cwd: Text | None = None
    env: dict[Variable, Text] = Field(default={})
    stdin: str | None = None


class Command(BuiltIn[CommandParams]):
    """Runs commands that a pattern allows."""

    kind = "command"
    model = CommandParams

    def __init__(self, patterns: Sequence[Pattern], *, grace_seconds: float = TERM_GRACE_SECONDS) -> None:
        self._patterns = patterns
        self._grace_seconds = grace_seconds

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:
        """Refuse what no pattern allows."""
        argv = self.model.model_validate(params).argv
        if is_allowed(argv, self._patterns):
            return None
        return f"WORKER_ALLOW_COMMANDS does not allow {' '.join(argv)[:200]!r}"

    async def reattach(
        self,
        params: Mapping[str, JsonValue],  # noqa: ARG002
        context: TaskContext,
        handle: JsonValue,
    ) -> None:
        """End what is left of it."""
        kept = Handle.model_validate(handle)
        found, alive = await asyncio.to_thread(leftover.end, kept, self._grace_seconds)
        if alive:
            log.error("command_left_running", task=context.task_id, pids=alive, reason="it could not be ended")
        elif found:
            log.warning("command_left_over_ended", task=context.task_id, pids=found)

    async def execute(self, params: CommandParams, context: TaskContext) -> JsonValue:
        """Run it to its end and return `{exit_code, output, truncated}`."""
        tail = _Tail(OUTPUT_BYTES)
        handle = Handle.new()
        await context.keep(_plain(handle))  # before there is a process: one that nobody knows of could not be ended
        try:
            process, pipe = await _start(params, handle, tail)
        except asyncio.CancelledError:  # asyncio has ended the process, but not what that has started by then
            await asyncio.shield(asyncio.to_thread(leftover.end, handle, self._grace_seconds))
            raise
        try:
            await context.keep(_plain(handle.of(process.pid)))
            exit_code = await process.wait()
            _signal(process, signal.SIGKILL)  # what it left behind holds the output open, and would outlive the task
            with contextlib.suppress(TimeoutError):  # unless it has left the group as well
                async with asyncio.timeout(LAST_OUTPUT_SECONDS):
                    await tail.ended.wait()
        finally:
            await asyncio.shield(_end(process, self._grace_seconds))
            pipe.close()
        result: JsonValue = {"exit_code": exit_code, "output": tail.text(), "truncated": tail.truncated}
        if exit_code != 0:
            raise TaskFailed(_why(exit_code), result)
        return result


class _Tail(asyncio.Protocol):
    """The last bytes of a stream, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.truncated = False
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > self._limit:
            del self._kept[: len(self._kept) - self._limit]
            self.truncated = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the end is the end
        self.ended.set()

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


async def _start(params: CommandParams, handle: Handle, tail: _Tail) -> tuple[Process, asyncio.ReadTransport]:
    """Start the command with its output going to `tail`.

    The pipe is ours and not asyncio's, whose `Process.wait` waits for the end of its pipes too (Python 3.11): a command
    that left somebody behind would never end.
    """
    reading, writing = os.pipe()
    pipe: asyncio.ReadTransport | None = None
    source = os.fdopen(reading, "rb", buffering=0)
    try:
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: tail, source)
        with _stdin(params.stdin) as stdin:
            process = await asyncio.create_subprocess_exec(  # the last thing that may fail: nothing runs if it does
                *params.argv,
                cwd=params.cwd,
                env=_environment(os.environ, params.env) | {MARK: handle.mark},
                stdin=stdin,
                stdout=writing,
                stderr=STDOUT,
                start_new_session=True,
            )
    except BaseException:
        (pipe or source).close()
        raise
    finally:
        os.close(writing)
    return process, pipe


@contextlib.contextmanager
def _stdin(text: str | None) -> Iterator[IO[bytes] | int]:
    """Give what a command reads: a file, so that nobody has to feed it."""
    if text is None:
        yield DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file


def _plain(handle: Handle) -> JsonValue:
    plain: JsonValue = handle.model_dump(exclude_none=True)
    return plain


def _environment(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the agent's environment without its settings, which hold secrets, and with what the task gives."""
    return {name: value for name, value in own.items() if not name.startswith(OWN_VARIABLES)} | dict(given)


async def _end(process: Process, grace_seconds: float) -> None:
    """End the whole group: ask, and after a while do not ask."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await process.wait()
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _why(exit_code: int) -> str:
    if exit_code > 0:
        return f"exit code {exit_code}"
    try:
        return f"ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"ended by signal {-exit_code}"
