"""`command` `{argv, cwd?, env?, stdin?}`: runs what `WORKER_ALLOW_COMMANDS` lists, and nothing else.

A command has a process group of its own, so that what it has started ends with it. Its output, both streams in one, is
read to the end and the last of it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from edge_agent.errors import TaskFailed
from edge_agent.executors.base import BuiltIn, Params
from edge_agent.rules.policy import is_allowed

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from edge_agent.context import TaskContext
    from edge_agent.rules.policy import Pattern

OUTPUT_BYTES = 64 * 1024
"""How much of the output is kept: the end, where a failure says why."""

TERM_GRACE_SECONDS = 2.0
"""How long a group may take to end after SIGTERM; then it is killed."""

READ_BYTES = 64 * 1024
OWN_VARIABLES = "WORKER_"
_NO_NUL = r"^[^\x00]*$"

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

    async def execute(self, params: CommandParams, context: TaskContext) -> JsonValue:  # noqa: ARG002
        """Run it to its end and return `{exit_code, output, truncated}`."""
        process = await asyncio.create_subprocess_exec(
            *params.argv,
            cwd=params.cwd,
            env=_environment(os.environ, params.env),
            stdin=PIPE if params.stdin is not None else DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        tail = _Tail(OUTPUT_BYTES)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_feed(process, params.stdin))
                group.create_task(_collect(process, tail))
                exit_code = await process.wait()
                _signal(process, signal.SIGKILL)  # what it left behind would keep the output open, and outlive the task
        finally:
            await asyncio.shield(_end(process, self._grace_seconds))
        result: JsonValue = {"exit_code": exit_code, "output": tail.text(), "truncated": tail.truncated}
        if exit_code != 0:
            raise TaskFailed(_why(exit_code), result)
        return result


class _Tail:
    """The last bytes of a stream, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.truncated = False

    def add(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > self._limit:
            del self._kept[: len(self._kept) - self._limit]
            self.truncated = True

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


def _environment(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the agent's environment without its settings, which hold secrets, and with what the task gives."""
    return {name: value for name, value in own.items() if not name.startswith(OWN_VARIABLES)} | dict(given)


async def _feed(process: Process, text: str | None) -> None:
    if process.stdin is None or text is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is given
        process.stdin.write(text.encode())
        await process.stdin.drain()
    process.stdin.close()


async def _collect(process: Process, tail: _Tail) -> None:
    while process.stdout and (chunk := await process.stdout.read(READ_BYTES)):
        tail.add(chunk)


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
