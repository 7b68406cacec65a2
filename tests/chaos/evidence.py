"""What a run left behind, as values: what was sent, the traces of what ran, and what hub and journals say of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chaos.city import City
    from tests.chaos.house import Death, House
    from tests.chaos.nemesis import Wound
    from tests.chaos.settling import Doubt
    from tests.chaos.stream import Sent

ENDED = frozenset({"succeeded", "failed", "timed_out", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a task, as its trace tells. Times are by the steady clock; a run that was cut short has no end."""

    task: str
    attempt: int
    worker: str
    boot: str
    began: float
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """An attempt in the hub's database. Times are Unix milliseconds; `boot` is the one that the result names."""

    number: int
    worker: str
    state: str
    accepted_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    boot: str | None = None
    error: str | None = None
    progress: float | None = None
    superseded: bool = False
    error_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task in the hub's database, with its attempts, and what people did to it."""

    id: str
    state: str
    idempotent: bool
    reason: str | None = None
    error: str | None = None
    attempt: int = 0
    worker: str | None = None
    attempts: tuple[AttemptSeen, ...] = ()
    deeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GapSeen:
    """A gap that the hub knows of. Times are Unix milliseconds; `error_ms` is None where the clock is not known."""

    worker: str
    dropped: str
    count: int | None
    at_ms: int
    first_ms: int | None
    last_ms: int | None
    reason: str
    error_ms: int | None = 0


@dataclass(frozen=True, slots=True)
class FactSeen:
    """A fact that the hub has, as `tests.chaos.traced` observed it."""

    worker: str
    task: str
    attempt: int
    boot: str
    number: int


@dataclass(frozen=True, slots=True)
class End:
    """An attempt's end that a worker committed to its journal, as its log says."""

    worker: str
    task: str
    attempt: int
    outcome: str


@dataclass(frozen=True, slots=True)
class JournalSeen:
    """A worker's journal when all was over, and how far the hub has committed its stream."""

    worker: str
    rows: int
    held: int
    newest: int
    settled: int
    committed: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run.

    Attributes:
        wall_offset: What makes Unix seconds of the steady clock's.
        began: When it began, by the steady clock.
        refused: What the hub answered where it should not have refused.

    """

    city: City
    sent: dict[str, Sent]
    runs: list[Run]
    tasks: dict[str, TaskSeen]
    gaps: list[GapSeen]
    facts: list[FactSeen]
    ends: list[End]
    journals: list[JournalSeen]
    doubts: list[Doubt]
    wounds: list[Wound]
    deaths: list[Death]
    refused: list[str]
    wall_offset: float
    began: float

    def wall_ms(self, steady: float) -> float:
        """Return a time of the steady clock as Unix milliseconds."""
        return (steady + self.wall_offset) * 1000


def read_runs(trace: Path) -> list[Run]:
    """Read the traces; a line that was cut short by a kill counts as what it is: nothing."""
    if not trace.exists():
        return []
    with trace.open(encoding="utf-8") as lines:
        return runs_of(json.loads(line) for line in lines if line.endswith("]\n"))


def runs_of(lines: Iterator[list[Any]]) -> list[Run]:
    """Make runs of `[at, "begin" or "end", task, attempt, worker, boot]`, in the order in which they began."""
    runs: list[Run] = []
    open_runs: dict[tuple[str, int, str, str], int] = {}
    for at, what, task, attempt, worker, boot in lines:
        key = (task, attempt, worker, boot)
        if what == "begin":
            open_runs[key] = len(runs)
            runs.append(Run(task, attempt, worker, boot, at))
        else:
            place = open_runs.pop(key)
            runs[place] = replace(runs[place], ended=at)
    return sorted(runs, key=lambda run: run.began)


def read_ends(house: House) -> list[End]:
    """Read from the agents' logs which ends they have committed."""
    found: list[End] = []
    for name, agent in house.agents.items():
        with agent.log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if '"task_ended"' in line:
                    said = json.loads(line)
                    found.append(End(name, said["task"], said["attempt"], said["outcome"]))
    return found


def read_tasks(database: sqlite3.Connection) -> dict[str, TaskSeen]:
    """Read every task with its attempts."""
    attempts: dict[str, list[AttemptSeen]] = {}
    for row in database.execute("SELECT * FROM attempts ORDER BY task, number, worker"):
        attempts.setdefault(row["task"], []).append(_attempt(row))
    deeds: dict[str, list[str]] = {}
    for row in database.execute("SELECT * FROM actions ORDER BY seq"):
        deeds.setdefault(row["task"], []).append(f"{row['action']} {row['body']}")
    return {
        row["id"]: TaskSeen(
            id=row["id"],
            state=row["state"],
            idempotent=bool(row["idempotent"]),
            reason=row["reason"],
            error=row["error"],
            attempt=row["attempt"],
            worker=row["worker"],
            attempts=tuple(attempts.get(row["id"], ())),
            deeds=tuple(deeds.get(row["id"], ())),
        )
        for row in database.execute("SELECT * FROM tasks ORDER BY seq")
    }


def read_gaps(database: sqlite3.Connection) -> list[GapSeen]:
    """Read every gap."""
    rows = database.execute("SELECT worker, at_ms, body FROM reports WHERE type = 'gap' ORDER BY seq")
    return [_gap(row["worker"], row["at_ms"], json.loads(row["body"])) for row in rows]


def read_facts(database: sqlite3.Connection) -> list[FactSeen]:
    """Read every fact that a task observed."""
    facts = []
    for row in database.execute("SELECT worker, body FROM reports WHERE type = 'fact.observed'"):
        said = json.loads(row["body"])
        value = said["value"]
        task = said["subject"].removeprefix("task/")
        facts.append(FactSeen(row["worker"], task, value["attempt"], value["boot"], value["number"]))
    return facts


def read_journals(house: House, database: sqlite3.Connection) -> list[JournalSeen]:
    """Read how each journal stands, and how far the hub has committed its stream."""
    found = []
    for name in house.agents:
        with closing(open_to_read(house.offline(name) / "journal.db")) as journal:
            about = {row["name"]: row["value"] for row in journal.execute("SELECT name, value FROM about")}
            ask = "SELECT (SELECT count(*) FROM journal), (SELECT count(*) FROM inbox)"
            rows, held = journal.execute(ask).fetchone()
            newest = journal.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
        through = database.execute(
            "SELECT committed_through FROM streams WHERE worker = ? AND stream = ?", (name, about["stream"])
        ).fetchone()
        found.append(
            JournalSeen(
                name,
                rows,
                held,
                newest=newest[0] if newest else 0,
                settled=int(about["settled"]),
                committed=through[0] if through else 0,
            )
        )
    return found


def open_to_read(file: Path) -> sqlite3.Connection:
    """Open a database that its program may have open too."""
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=10)
    connection.row_factory = sqlite3.Row
    return connection


def _attempt(row: sqlite3.Row) -> AttemptSeen:
    result = json.loads(row["result"]) if row["result"] else None
    return AttemptSeen(
        number=row["number"],
        worker=row["worker"],
        state=row["state"],
        accepted_ms=row["accepted_ms"],
        started_ms=row["started_ms"],
        finished_ms=row["finished_ms"],
        boot=result.get("boot") if isinstance(result, dict) else None,
        error=row["error"],
        progress=row["progress"],
        superseded=bool(row["superseded"]),
        error_ms=row["error_ms"],
    )


def _gap(worker: str, at_ms: int, body: dict[str, Any]) -> GapSeen:
    return GapSeen(
        worker=worker,
        dropped=body["dropped"],
        count=body.get("count"),
        at_ms=at_ms,
        first_ms=body.get("first_at"),
        last_ms=body.get("last_at"),
        reason=body["reason"],
        error_ms=body.get("error_ms"),
    )
