"""What runs on an edge host: an agent that takes tasks, runs them, and reports, whether or not anybody listens.

```python
from edge_agent import Agent, TaskContext

agent = Agent()

@agent.task("greet")
async def greet(ctx: TaskContext, name: str) -> dict:
    return {"text": f"hello {name}"}

if __name__ == "__main__":
    agent.run()
```
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.context import TaskContext
    from edge_agent.framework import Agent

__all__ = ["Agent", "TaskContext"]


def __getattr__(name: str) -> object:
    """Import what is asked for: `edge-agent status`, which health checks run all day long, needs none of it."""
    if name == "Agent":
        from edge_agent.framework import Agent  # noqa: PLC0415

        return Agent
    if name == "TaskContext":
        from edge_agent.context import TaskContext  # noqa: PLC0415

        return TaskContext
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
