"""Runs handlers without a broker, for the tests of who writes them.

```python
async def test_a_snapshot_tells_its_size() -> None:
    run = await run_task(agent, "camera.snapshot", {"url": "http://camera.example"})
    assert run.outcome is Outcome.SUCCEEDED
    assert run.result == {"bytes": 48213}
    assert run.facts[0].value == "2.1"
```

It is the agent's own way from admission to the end, with the events in a list instead of a journal, and the output in
memory instead of a file.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.errors import InvalidInput
from broker.messages import FactObserved, Outcome, TaskProgress
from edge_agent.abilities import Abilities
from edge_agent.context import TaskContext
from edge_agent.execution import Execution
from edge_agent.executors import Registry
from edge_agent.rules.attempts import Ending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from broker.messages import Event, Scalar
    from edge_agent.executors import Executor
    from edge_agent.framework import Agent

__all__ = ["Outcome", "TaskRun", "run_task"]

TEST_TASK = "test-task"


@dataclass(slots=True)
class TaskRun:
    """How a task went.

    Attributes:
        outcome: How it ended.
        result: What the handler returned, as JSON.
        error: Why it did not succeed.
        events: All that the handler reported, in order.
        output: All that it wrote with `ctx.output`.

    """

    outcome: Outcome
    result: JsonValue
    error: str | None
    events: list[Event] = field(default_factory=list)
    output: str = ""

    @property
    def progress(self) -> list[TaskProgress]:
        """What the handler said with `ctx.progress`."""
        return [event for event in self.events if isinstance(event, TaskProgress)]

    @property
    def facts(self) -> list[FactObserved]:
        """What the handler said with `ctx.fact`."""
        return [event for event in self.events if isinstance(event, FactObserved)]


async def run_task(
    agent: Agent,
    kind: str,
    params: Mapping[str, JsonValue] | None = None,
    *,
    capabilities: Mapping[str, Scalar] | None = None,
    allow_commands: Sequence[str] = (),
    allow_urls: Sequence[str] | None = None,
    http_ca: Path | None = None,
    timeout_seconds: float | None = None,
    cancel_after: float | None = None,
    attempt: int = 1,
) -> TaskRun:
    """Run one task of `kind` as an agent would, and return how it went.

    Args:
        agent: Whose handlers there are, beside the built-in kinds.
        kind: Which of them.
        params: The task's params.
        capabilities: What the worker has; what the kind itself requires is met unless this is given.
        allow_commands: WORKER_ALLOW_COMMANDS, for the kind `command`.
        allow_urls: WORKER_ALLOW_URLS, for the kind `http`.
        http_ca: WORKER_HTTP_CA, for the same.
        timeout_seconds: The task's time limit.
        cancel_after: Somebody cancels it after so many seconds, if it has not ended by then.
        attempt: The number that the handler sees.

    Raises:
        InvalidInput: If the params are rejected, as an agent would reject them.
        LookupError: If the agent does not offer the kind, or its policy forbids the task.

    """
    registry = Registry.of(
        agent.handlers.values(), allow_commands=allow_commands, allow_urls=allow_urls, http_ca=http_ca
    )
    given = dict(params or {})
    executor = _find(registry, kind, given, capabilities)
    events: list[Event] = []
    output = _Output()
    context = TaskContext(
        TEST_TASK, attempt, report=events.append, clock=now_ms, log=output, timeout_seconds=timeout_seconds
    )
    execution = Execution(executor, context, timeout_seconds=timeout_seconds)
    if cancel_after is not None:
        cancelled = Ending(Outcome.CANCELLED, error="cancelled")
        asyncio.get_running_loop().call_later(cancel_after, execution.stop, cancelled)
    ending = await execution.run(given)
    return TaskRun(ending.outcome, ending.result, ending.error, events, output.text())


def _find(
    registry: Registry, kind: str, params: Mapping[str, JsonValue], capabilities: Mapping[str, Scalar] | None
) -> Executor:
    kinds = registry.kinds if capabilities is None else Abilities(registry.kinds, capabilities).kinds
    if kind not in kinds:
        raise LookupError(f"{kind} does not run here: there are {', '.join(sorted(kinds))}")
    problems = kinds[kind].problems(params)
    if problems:
        raise InvalidInput(problems)
    refusal = kinds[kind].refusal(params)
    if refusal:
        raise LookupError(refusal)
    return kinds[kind]


class _Output:
    """Keeps an attempt's output in memory."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._written.append(data)

    async def drained(self) -> None:
        """Have room at once."""

    async def size(self) -> int:
        return sum(map(len, self._written))

    def text(self) -> str:
        return b"".join(self._written).decode("utf-8", "replace")
