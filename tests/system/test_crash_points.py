"""SIGKILL between any two steps of taking, running and reporting a task, and what becomes of it.

A first life of an agent lists the points that it passes; then, for each of them, another agent dies right before it,
and a last one starts on what that left. `tests.support.crashing_agent` says how.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from broker.link import Link
from broker.topics import SiteTasks, Topics
from tests.support.nursery import Life, Nursery, make_nursery
from tests.support.programs import House, Hub, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from broker.link import Connection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LIVES_AT_ONCE = 12
PATIENCE_SECONDS = 60.0
NEVER = "idle#1"
"""A crash at the very end: its life passes all points."""

SETTLED = {"succeeded", "failed", "timed_out", "cancelled", "expired", "unknown"}


@dataclass(frozen=True)
class Case:
    """A task, how it comes to the worker, and where that worker dies.

    Attributes:
        way: `http` for a task that the hub assigns, `site` for one that is published at the site.
        crash_at: Where the first life ends.
        then_at: Where a second life ends, counted from its start, if there is one.

    """

    way: str
    idempotent: bool
    crash_at: str = NEVER
    then_at: str | None = None

    def __str__(self) -> str:
        kind = "idempotent" if self.idempotent else "once"
        return f"{self.way}, {kind}, dies at {self.crash_at}" + (f", then at {self.then_at}" if self.then_at else "")


@dataclass
class Story:
    """What became of a case.

    Attributes:
        lives: All but the last.
        runs: How often the task had been begun at the end of each life.
        task: What the hub shows in the end.

    """

    case: Case
    lives: list[Life] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    task: dict[str, Any] = field(default_factory=dict)

    def had_committed(self, step: str) -> bool:
        """Tell whether a life that crashed had committed a step for certain."""
        return self._passed(f"committed(-|-.*[+]){step}([+].*)?#")

    def may_have_committed(self, step: str) -> bool:
        """Tell whether a life that crashed had asked for the commit of a step."""
        return self._passed(f"COMMIT(-|-.*[+]){step}([+].*)?#")

    def _passed(self, pattern: str) -> bool:
        return any(re.match(pattern, point) for life in self.lives for point in life.points)

    def problems(self) -> Iterable[str]:
        """Yield what was not to be."""
        state, reason, runs = self.task["state"], f"{self.task['reason']} {self.task['error']}", self.runs[-1]
        if self.case.idempotent or self.had_committed("end"):
            if state != "succeeded":
                yield f"it {state}: {reason}"
            in_each_life = [after - before for before, after in pairwise([0, *self.runs])]
            if not runs or max(in_each_life) > 1:
                yield f"it was begun {in_each_life} times in its lives"
        if not self.case.idempotent:
            yield from self._problems_of_once(state, reason, runs)

    def _problems_of_once(self, state: str, reason: str, runs: int) -> Iterable[str]:
        if state not in {"succeeded", "failed"}:
            yield f"it {state}: {reason}"
        if runs > 1:
            yield f"a task that is not idempotent was begun {runs} times"
        if not self.may_have_committed("begin") and (state, runs) != ("succeeded", 1):
            yield f"it had not begun, and {state} ({reason}) after {runs} runs"
        if self.had_committed("begin") and not self.may_have_committed("end"):
            ends = [one["state"] for one in self.task["attempts"]]
            if (state, ends[-1:]) != ("failed", ["interrupted"]):
                yield f"it died while it ran, and {state} ({reason}): {ends}"


class Stage:
    """One broker, one hub, and a site of its own for each case."""

    def __init__(self, house: House, hub: Hub, nursery: Nursery, connection: Connection) -> None:
        self._house = house
        self._hub = hub
        self._nursery = nursery
        self._connection = connection
        self._room = asyncio.Semaphore(LIVES_AT_ONCE)
        self._cases = 0

    async def play(self, case: Case) -> Story:
        """Let a case happen."""
        async with self._room:
            self._cases += 1
            name = f"c{self._cases}"
            folder = self._house.folder / name
            folder.mkdir()
            trace = folder / "trace"
            story = Story(case)
            first = await self._agent(folder, name, crash_at=case.crash_at)
            await first.online()
            await self._submit(case, name, trace)
            await first.ended()
            story.lives.append(first)
            story.runs.append(_runs(trace))
            if case.then_at is not None:
                second = await self._agent(folder, name, crash_at=case.then_at, from_start=True)
                await second.ended()
                story.lives.append(second)
                story.runs.append(_runs(trace))
            last = await self._agent(folder, name)
            await last.online()
            story.task = await self._settled(name, last)
            await last.kill()
            story.runs.append(_runs(trace))
            return story

    async def _agent(self, folder: Path, name: str, **how: Any) -> Life:  # noqa: ANN401  as Nursery.agent has it
        return await self._nursery.agent(
            folder,
            **how,
            id=name,
            site=name,
            broker_url=self._house.broker.url,
            plugins=["tests.support.traced"],
            heartbeat_interval_seconds=3600,  # it says nothing unless there is something to say
        )

    async def _submit(self, case: Case, name: str, trace: Path) -> None:
        task = {
            "id": name,
            "kind": "traced",
            "params": {"path": str(trace)},
            "idempotent": case.idempotent,
            "retry": {"max_attempts": 5, "backoff_seconds": 0.05},
        }
        if case.way == "http":
            await self._hub.post({**task, "site": name})
        else:
            await self._connection.publish(Topics().build(SiteTasks(name)), json.dumps(task).encode())

    async def _settled(self, name: str, life: Life) -> dict[str, Any]:
        """Return the task once nothing more will become of it."""
        task: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while task.get("state") not in SETTLED:
                    answer = await self._hub.http.get(f"/api/tasks/{name}/wait", params={"timeout": 2})
                    task = answer.json() if answer.is_success else {}
        except TimeoutError:
            raise AssertionError(f"{name} has not ended: {task}\n{life.log.read_text()[-4000:]}") from None
        return task


def _runs(trace: Path) -> int:
    return trace.read_text().count("begin") if trace.exists() else 0


@asynccontextmanager
async def make_stage(folder: Path) -> AsyncIterator[Stage]:
    async with make_house(folder) as house, make_nursery() as nursery:
        hub = await house.hub(HUB_ACCEPT_TIMEOUT_SECONDS="3")
        async with Link(url=house.broker.url, client_id="publisher").connect() as connection:
            yield Stage(house, hub, nursery, connection)


async def play_all(stage: Stage, cases: Iterable[Case]) -> list[Story]:
    async with asyncio.TaskGroup() as group:
        playing = [group.create_task(stage.play(case)) for case in cases]
    return [one.result() for one in playing]


def assert_all_well(stories: list[Story]) -> None:
    wrong = [f"{story.case}: {problem}" for story in stories for problem in story.problems()]
    assert not wrong, "\n".join(wrong)


def died_where_told(stories: list[Story]) -> float:
    """Return the share of lives that ended at their point: threads take turns, so not every life passes all of them."""
    return sum(story.lives[-1].points[-1] == (story.case.then_at or story.case.crash_at) for story in stories) / len(
        stories
    )


WAYS = [Case(way, idempotent) for way in ("http", "site") for idempotent in (True, False)]


async def test_a_task_survives_sigkill_at_every_point_of_its_life(tmp_path: Path) -> None:
    async with make_stage(tmp_path) as stage:
        whole = await play_all(stage, WAYS)
        cases = [
            replace(story.case, crash_at=point) for story in whole for point in dict.fromkeys(story.lives[0].points)
        ]
        stories = await play_all(stage, cases)
    assert_all_well([*whole, *stories])
    assert len(cases) > 100
    assert died_where_told(stories) > 0.8


async def test_a_start_after_a_crash_survives_sigkill_at_every_point(tmp_path: Path) -> None:
    crashes = [replace(way, crash_at=point) for way in WAYS[:2] for point in ("run#1", "trace-end#1")]
    async with make_stage(tmp_path) as stage:
        whole = await play_all(stage, [replace(case, then_at=NEVER) for case in crashes])
        cases = [
            replace(story.case, then_at=point) for story in whole for point in dict.fromkeys(story.lives[1].points)
        ]
        stories = await play_all(stage, cases)
    assert_all_well([*whole, *stories])
    assert len(cases) > 60
    assert died_where_told(stories) > 0.8
