"""Handlers for system tests: each run leaves a line outside the system."""

import os
from pathlib import Path

from edge_agent import Agent, TaskContext

agent = Agent()


@agent.task("trace")
def trace(ctx: TaskContext, path: str) -> dict[str, str]:
    """Append who ran which task, in one write that others cannot come between."""
    line = f"{ctx.task_id} {ctx.attempt} {os.environ['WORKER_ID']}\n"
    file = os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)
    return {"worker": os.environ["WORKER_ID"]}
