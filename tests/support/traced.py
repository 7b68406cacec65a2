"""Tasks that leave a line outside the system when they begin, and one when they end.

Each line says in which life of the agent it was, so that runs can be counted whatever has become of the agent.
"""

from __future__ import annotations

import asyncio
import os

from edge_agent import Agent, TaskContext

LIFE = "LIFE"
AGENT = "AGENT"
"""Variables in an agent's environment: which life it is, and which process."""

COMMAND = f"""
echo "begin ${LIFE}" >> "$0"
sleep 0.05
read -r _ _ _ parent _ < /proc/$$/stat
[ "$parent" = "${AGENT}" ] || exec sleep 600
echo "end ${LIFE}" >> "$0"
"""
"""The same as a script. One whose agent dies stays until somebody ends it."""

agent = Agent()


@agent.task("traced")
async def traced(ctx: TaskContext, path: str) -> dict[str, int]:
    """Say when it begins and when it ends."""
    note(path, f"begin {os.environ.get(LIFE, '')}")
    await asyncio.sleep(0)
    note(path, f"end {os.environ.get(LIFE, '')}")
    return {"attempt": ctx.attempt}


def note(path: str, line: str) -> None:
    """Append a line and see it onto the disk."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
