"""Handlers to try and to copy from: `WORKER_PLUGINS=edge_agent.samples` loads them into a stock agent."""

import shutil

from edge_agent import Agent, TaskContext

agent = Agent()


@agent.task("sample.disk")
async def disk(ctx: TaskContext, path: str = "/") -> dict[str, int]:
    """Measure the file system that holds `path`, in bytes, and keep what is free as a fact of this worker."""
    usage = shutil.disk_usage(path)
    ctx.fact(f"disk{path}", "free_bytes", usage.free)
    return {"total_bytes": usage.total, "free_bytes": usage.free}


@agent.task("sample.checksum")
def checksum(path: str, algorithm: str = "sha256") -> dict[str, str]:
    """Return the checksum of a file. It blocks, so it is no `async def`: the agent runs it in a thread."""
    import hashlib  # noqa: PLC0415  loaded on the first use, not with every agent

    with open(path, "rb") as file:  # noqa: PTH123
        return {"path": path, algorithm: hashlib.file_digest(file, algorithm).hexdigest()}
