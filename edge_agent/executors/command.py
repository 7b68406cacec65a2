"""`command` `{argv, cwd?, env?, stdin?}`: runs what `WORKER_ALLOW_COMMANDS` lists, and nothing else.

A command has a process group of its own and a mark in its environment, so that what it has started ends with it. Its
output, both streams in one, goes to the attempt's log, and the last of it to the result. If the agent dies, nobody
reads it any more: what is left of the command is ended when the agent starts again (`edge_agent.executors.leftover`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, StringConstraints

from edge_agent.errors import TaskFailed
from edge_agent.executors import leftover
from edge_agent.executors.base import BuiltIn, Params
from edge_agent.executors.bounds import Bounds
from edge_agent.executors.leftover import Handle
from edge_agent.executors.output import Tail
from edge_agent.executors.process import Process, Start, end_leftovers
from edge_agent.rules.environment import EXPECTED_NAME, environment, may_be_given
from edge_agent.rules.policy import is_allowed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from edge_agent.context import TaskContext
    from edge_agent.rules.policy import Pattern

TERM_GRACE_SECONDS = 2.0
"""How long a group may take to end after SIGTERM; then it is killed."""

_NO_NUL = r"^[^\x00]*$"


def _variable(name: str) -> str:
    if not may_be_given(name):
        raise ValueError(EXPECTED_NAME)
    return name


def _folder(path: str) -> str:
    if not path.startswith("/") or ".." in PurePosixPath(path).parts:
        msg = "an absolute path without '..'"
        raise ValueError(msg)
    return path


Text = Annotated[str, StringConstraints(pattern=_NO_NUL)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_variable)]
Folder = Annotated[Text, AfterValidator(_folder)]


class CommandParams(Params):
    """What to run: `argv` as it is, with no shell in between."""

    argv: list[Text] = Field(min_length=1)
    cwd: Folder | None = None
    env: dict[Variable, Text] = Field(default={})
    stdin: str | None = None


class Command(BuiltIn[CommandParams]):
    """Runs commands that a pattern allows."""

    kind = "command"
    model = CommandParams

    def __init__(
        self,
        patterns: Sequence[Pattern],
        bounds: Bounds | None = None,
        *,
        grace_seconds: float = TERM_GRACE_SECONDS,
    ) -> None:
        self._patterns = patterns
        self._bounds = bounds or Bounds()
        self._grace_seconds = grace_seconds

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:
        """Refuse what no pattern allows, and where no directory is listed."""
        return self._refused(self.model.model_validate(params))

    async def reattach(
        self,
        params: Mapping[str, JsonValue],  # noqa: ARG002
        context: TaskContext,
        handle: JsonValue,
    ) -> None:
        """End what is left of it."""
        await end_leftovers(Handle.model_validate(handle), self._grace_seconds, context.task_id)

    async def execute(self, params: CommandParams, context: TaskContext) -> JsonValue:
        """Run it to its end and return `{exit_code, output, truncated}`; cut short, it has no exit code."""
        refused = self._refused(params)  # an earlier run of the agent may have let it in, or its folder leads elsewhere
        if refused:
            raise TaskFailed(refused)
        handle = Handle.new()
        await context.keep(_plain(handle))  # before there is a process: one that nobody knows of could not be ended
        try:
            process = await Process.start(self._start(params, context.task_id), handle)
        except asyncio.CancelledError:  # asyncio has ended the process, but not what that has started by then
            await asyncio.shield(asyncio.to_thread(leftover.end, handle, self._grace_seconds))
            raise
        tail = Tail()
        context.result_so_far = partial(_result, None, tail)

        async def take(data: bytes) -> None:
            tail.add(data)
            context.output(data)
            await context.drained()

        try:
            await context.keep(_plain(handle.of(process.pid)))
            exit_code = await process.see_through(take, self._grace_seconds)
        finally:
            await asyncio.shield(process.end(self._grace_seconds))
        result = _result(exit_code, tail)
        if exit_code != 0:
            raise TaskFailed(_why(exit_code), result)
        return result

    def _start(self, params: CommandParams, task: str) -> Start:
        account = self._bounds.account
        person = account.environment if account else None
        return Start(
            task=task,
            argv=self._bounds.limited(params.argv),
            environment=environment(os.environ, params.env, passed=self._bounds.passed, person=person),
            cwd=params.cwd or (account.home if account else None),
            stdin=params.stdin,
            account=account,
        )

    def _refused(self, params: CommandParams) -> str | None:
        if not is_allowed(params.argv, self._patterns):
            return f"WORKER_ALLOW_COMMANDS does not allow {' '.join(params.argv)[:200]!r}"
        if params.cwd is None or self._bounds.allows_dir(params.cwd):
            return None
        return f"WORKER_COMMAND_DIRS does not allow {params.cwd[:200]!r}"


def _result(exit_code: int | None, tail: Tail) -> JsonValue:
    return {"exit_code": exit_code, "output": tail.text(), "truncated": tail.truncated}


def _plain(handle: Handle) -> JsonValue:
    plain: JsonValue = handle.model_dump(exclude_none=True)
    return plain


def _why(exit_code: int) -> str:
    if exit_code > 0:
        return f"exit code {exit_code}"
    try:
        return f"ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"ended by signal {-exit_code}"
