"""Handlers for system tests: each run leaves a line outside the system."""

import os
import time
from pathlib import Path

from edge_agent import Agent, TaskContext

agent = Agent()


@agent.task("trace")
def trace(ctx: TaskContext, path: str, seconds: float = 0.0) -> dict[str, str]:
    """Append who ran which task, in one write that others cannot come between; and be at it for a while."""
    line = f"{ctx.task_id} {ctx.attempt} {os.environ['WORKER_ID']}\n"
    file = os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)
    time.sleep(seconds)
    return {"worker": os.environ["WORKER_ID"]}
