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

from edge_agent.context import TaskContext
from edge_agent.framework import Agent

__all__ = ["Agent", "TaskContext"]
