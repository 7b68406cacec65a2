"""One run: build the city, keep work coming while it is broken, heal it, and look at what is left."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos import disks, evidence as reading, report
from tests.chaos.checker import Violation, violations
from tests.chaos.city import CITY
from tests.chaos.evidence import Evidence
from tests.chaos.house import make_house
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import Kind, plan_faults
from tests.chaos.settling import settle
from tests.chaos.stream import Stream
from tests.support.needs import LIBFAKETIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.house import House
    from tests.chaos.settling import Doubt

TASKS_A_SECOND = 50.0
SETTLE_SECONDS = 120.0
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    violations: list[Violation]
    summary: str
    histories: str
    evidence: Evidence


async def run(
    seed: int, seconds: float, *, rate: float = TASKS_A_SECOND, show: Callable[[str], None] = lambda _: None
) -> Result:
    """Run for so many seconds, and judge. The folder stays where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"holdfast-chaos-{seed}-"))
    library = faketime()
    skipped = impossible(library)
    async with make_house(CITY, folder, library) as house:
        await house.ready()
        faults = plan_faults(seed, seconds, CITY, without=skipped)
        began, patience = time.monotonic(), SETTLE_SECONDS + seconds / 4
        stream, nemesis = Stream(house, seed, rate=rate), Nemesis(house)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(house, stream, nemesis, began, show), name="watch")
            async with asyncio.TaskGroup() as working:
                working.create_task(stream.run(seconds, began, patience_seconds=patience), name="stream")
                working.create_task(nemesis.run(faults, began), name="nemesis")
            doubts = await settle(house, patience)
            watch.cancel()
        evidence = await asyncio.to_thread(_gather, house, stream, nemesis, doubts, began)
        result = _judge(evidence, house, seed, time.monotonic() - began, skipped)
    if not result.violations:
        shutil.rmtree(folder)
    return result


def _judge(evidence: Evidence, house: House, seed: int, seconds: float, skipped: dict[Kind, str]) -> Result:
    found = violations(evidence)
    why_not = [f"{kind}: {why}" for kind, why in skipped.items()]
    summary = report.summary(evidence, found, seed=seed, seconds=seconds, skipped=why_not)
    if found:
        summary += f"\n  everything is in {house.folder}"
    return Result(found, summary, report.histories(evidence, found, house) if found else "", evidence)


def _gather(house: House, stream: Stream, nemesis: Nemesis, doubts: list[Doubt], began: float) -> Evidence:
    with closing(reading.open_to_read(house.folder / "hub.db")) as database:
        database.execute("BEGIN")
        return Evidence(
            city=house.city,
            sent=stream.sent,
            runs=reading.read_runs(house.trace),
            tasks=reading.read_tasks(database),
            gaps=reading.read_gaps(database),
            facts=reading.read_facts(database),
            ends=reading.read_ends(house),
            journals=reading.read_journals(house, database),
            doubts=doubts,
            wounds=nemesis.wounds,
            deaths=list(house.deaths),
            refused=stream.refused,
            wall_offset=time.time() - time.monotonic(),
            began=began,
        )


def impossible(library: str | None) -> dict[Kind, str]:
    """Return what cannot be broken here, and why."""
    found = {}
    if not disks.may_mount():
        found[Kind.FILL_DISK] = "mounting a small file system takes root on Linux"
    if library is None:
        found[Kind.STEP_CLOCK] = "libfaketime is not installed"
    return found


def faketime() -> str | None:
    """Return the library that gives a process a clock of its own, if it is here."""
    found = [str(file) for pattern in LIBFAKETIME for file in Path("/").glob(pattern)]
    return found[0] if found else None


async def _watch(house: House, stream: Stream, nemesis: Nemesis, began: float, show: Callable[[str], None]) -> None:
    while True:
        sites = await house.get("/api/sites")
        counts = [site["tasks"] for site in sites["items"]] if sites else []
        waiting = ", ".join(
            f"{state} {sum(count[state] for count in counts)}"
            for state in ("pending", "assigned", "running", "unknown")
        )
        broken = ", ".join(f"{fault.kind} {fault.target}" for fault in nemesis.open)
        show(
            f"{time.monotonic() - began:5.0f} s  {len(nemesis.wounds):4} faults  {len(stream.sent):6} sent "
            f"{stream.accepted:6} accepted  {waiting if counts else 'no hub'}  {broken}"
        )
        await asyncio.sleep(LOOK_SECONDS)
