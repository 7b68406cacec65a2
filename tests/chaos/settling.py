"""When all is healed: waits until nothing moves any more, and does what a person would about what is not known."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tests.chaos.evidence import read_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.evidence import Run
    from tests.chaos.house import House

QUIET_LOOKS = 4
LOOK_SECONDS = 1.0
"""Nothing has moved in so many looks: longer than a lease, and than a hello takes."""

UNENDED = ("pending", "assigned", "running")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A task that was `unknown` when all was quiet: why, whose it was, and what a person did about it."""

    task: str
    reason: str
    workers: tuple[str, ...]
    at: float
    deed: str


async def settle(house: House, patience_seconds: float) -> list[Doubt]:
    """Wait until nothing moves; resolve what nobody knows, by the traces; wait again. Return what was not known."""
    deadline = time.monotonic() + patience_seconds
    doubts: list[Doubt] = []
    while await _until_quiet(house, deadline):
        unknown = await _list(house, "unknown")
        if not unknown:
            break
        runs = await asyncio.to_thread(read_runs, house.trace)
        doubts += [
            await _resolve(house, task["id"], [run for run in runs if run.task == task["id"]]) for task in unknown
        ]
    return doubts


async def _until_quiet(house: House, deadline: float) -> bool:
    quiet, before = 0, None
    while time.monotonic() < deadline:
        now = await _look(house)
        quiet = quiet + 1 if now is not None and now == before else 0
        if quiet == QUIET_LOOKS:
            return True
        before = now
        await asyncio.sleep(LOOK_SECONDS)
    return False


async def _look(house: House) -> tuple[int, ...] | None:
    """Return what can still change, if everybody is there and has told everything."""
    sites, workers = await house.get("/api/sites"), await house.get("/api/workers")
    if sites is None or workers is None:
        return None
    counts = [site["tasks"] for site in sites["items"]]
    if any(count[state] for count in counts for state in UNENDED):
        return None
    here = [worker for worker in workers["items"] if worker["state"] == "online" and worker["journal"]["rows"] == 0]
    return (len(here), sum(count["unknown"] for count in counts)) if len(here) == len(house.agents) else None


async def _list(house: House, state: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await house.get("/api/tasks", state=state, limit=500, **({"cursor": cursor} if cursor else {}))
        if page is None:
            return found
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


async def _resolve(house: House, task: str, runs: Sequence[Run]) -> Doubt:
    """Say what became of a task that nobody knows of, as the trace has it; where it has not run, try it again."""
    shown = await house.get(f"/api/tasks/{task}") or {}
    workers = [attempt["worker"] for attempt in shown.get("attempts", ())]
    if not runs:
        verb, body = "retry", {"reason": "it left no trace"}
    elif runs[-1].ended is None:
        verb, body = "resolve", {"outcome": "failed", "note": "it began, and left no trace of its end"}
    else:
        verb, body = "resolve", {"outcome": "succeeded", "note": "it left a trace of its end"}
    try:
        answer = await house.ask("POST", f"/api/tasks/{task}/{verb}", json=body)
        deed = f"{verb} {body.get('outcome', '')}".strip() + f": {answer.status_code}"
    except httpx.HTTPError as error:
        deed = f"{verb}: {error!r}"
    named = [name for name in house.agents if name in (shown.get("reason") or "").replace(",", " ").split()]
    return Doubt(task, shown.get("reason") or "", tuple(dict.fromkeys([*workers, *named])), time.monotonic(), deed)
