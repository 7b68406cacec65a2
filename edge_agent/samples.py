"""Handlers to try and to copy from: `WORKER_PLUGINS=edge_agent.samples` loads them into a stock agent."""

import hashlib
import shutil
from pathlib import Path

from edge_agent import Agent, TaskContext

agent = Agent()


@agent.task("sample.disk")
async def disk(ctx: TaskContext, path: str = "/") -> dict[str, int]:
    """Measure the file system that holds `path`, in bytes, and keep what is free as a fact of this worker."""
    usage = shutil.disk_usage(path)
    ctx.fact(f"disk{path}", "free_bytes", usage.free)
    return {"total_bytes": usage.total, "free_bytes": usage.free}


@agent.task("sample.checksum")
def checksum(ctx: TaskContext, path: str, algorithm: str = "sha256") -> dict[str, str]:
    """Return the checksum of a file. It blocks, so it is no `async def`: the agent runs it in a thread."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    ctx.fact(f"file{path}", algorithm, digest)
    return {"path": path, algorithm: digest}
