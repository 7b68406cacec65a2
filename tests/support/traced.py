"""A handler that leaves a line outside the system when it begins, and one when it ends."""

from __future__ import annotations

import asyncio
import os

from edge_agent import Agent, TaskContext

agent = Agent()


@agent.task("traced")
async def traced(ctx: TaskContext, path: str) -> dict[str, int]:
    """Say when it begins and when it ends, so that runs can be counted whatever becomes of the agent."""
    note(path, f"begin {ctx.attempt}")
    await asyncio.sleep(0)
    note(path, f"end {ctx.attempt}")
    return {"attempt": ctx.attempt}


def note(path: str, line: str) -> None:
    """Append a line and see it onto the disk."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
