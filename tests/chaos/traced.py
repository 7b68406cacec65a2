"""The work itself, as agents load it: it leaves its own trace outside the system, a line on the disk for each step."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid

from edge_agent import Agent, TaskContext

LAST_PROGRESS = 0.75
BOOT = uuid.uuid4().hex[:12]

agent = Agent()


@agent.task("chaos.work")
async def work(ctx: TaskContext, milliseconds: int, facts: int) -> dict[str, object]:
    """Say when it begins and when it ends, so that runs can be counted whatever becomes of the agent."""
    note("begin", ctx)
    await ctx.progress(LAST_PROGRESS / 3)
    for number in range(facts):
        ctx.fact(f"task/{ctx.task_id}", "seen", {"attempt": ctx.attempt, "boot": BOOT, "number": number})
    await asyncio.sleep(milliseconds / 1000)
    await ctx.progress(LAST_PROGRESS)
    note("end", ctx)
    return {"attempt": ctx.attempt, "worker": os.environ["WORKER_ID"], "boot": BOOT}


def note(what: str, ctx: TaskContext) -> None:
    """Append a line that others cannot come between, and see it onto the disk.

    Its time is by the steady clock of this machine, which all processes share and nobody sets.
    """
    at = round(time.monotonic(), 6)
    line = json.dumps([at, what, ctx.task_id, ctx.attempt, os.environ["WORKER_ID"], BOOT])
    file = os.open(os.environ["CHAOS_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
