"""Runs handlers without a broker, for the tests of who writes them.

```python
async def test_a_snapshot_tells_its_size() -> None:
    run = await run_task(agent, "camera.snapshot", {"url": "http://camera.example"})
    assert run.outcome is Outcome.SUCCEEDED
    assert run.result == {"bytes": 48213}
    assert run.facts[0].value == "2.1"
```

It is the agent's own way from admission to the end, with the events in a list instead of a journal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.errors import InvalidInput
from broker.messages import FactObserved, Outcome, TaskProgress
from edge_agent.abilities import Abilities
from edge_agent.context import TaskContext
from edge_agent.execution import Execution
from edge_agent.executors import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

    """

    outcome: Outcome
    result: JsonValue
    error: str | None
    events: list[Event] = field(default_factory=list)

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
    timeout_seconds: float | None = None,
    attempt: int = 1,
) -> TaskRun:
    """Run one task of `kind` as an agent would, and return how it went.

    Args:
        agent: Whose handlers there are, beside the built-in kinds.
        kind: Which of them.
        params: The task's params.
        capabilities: What the worker has; the handler's own requirements are met unless this is given.
        allow_commands: WORKER_ALLOW_COMMANDS, for the kind `command`.
        timeout_seconds: The task's time limit.
        attempt: The number that the handler sees.

    Raises:
        InvalidInput: If the params are rejected, as an agent would reject them.
        LookupError: If the agent does not offer the kind.

    """
    executor = _find(agent, kind, allow_commands, capabilities)
    given = dict(params or {})
    problems = executor.problems(given)
    if problems:
        raise InvalidInput(problems)
    events: list[Event] = []
    context = TaskContext(TEST_TASK, attempt, report=events.append, clock=now_ms)
    ending = await Execution(executor, context, timeout_seconds=timeout_seconds).run(given)
    return TaskRun(ending.outcome, ending.result, ending.error, events)


def _find(
    agent: Agent, kind: str, allow_commands: Sequence[str], capabilities: Mapping[str, Scalar] | None
) -> Executor:
    handler = agent.handlers.get(kind)
    if handler is not None and capabilities is None:
        return handler
    registry = Registry.of(agent.handlers.values(), allow_commands=allow_commands)
    kinds = Abilities(registry.kinds, capabilities or {}).kinds
    if kind not in kinds:
        raise LookupError(f"{kind} does not run here: there are {', '.join(sorted(kinds))}")
    return kinds[kind]
