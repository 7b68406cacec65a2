"""SIGKILL between any two steps of taking, running and reporting a task, and what becomes of it.

A first life of an agent lists the points that it passes; then, for each of them, another agent dies right before it,
and a last one starts on what that left. `tests.support.crashing_agent` says how, `tests.support.crashes` what may
come of it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from broker.link import Link
from broker.topics import Reply, SiteTasks, Topics
from tests.support.crashes import NEVER, Case, Story
from tests.support.nursery import Life, Nursery, left_behind, make_nursery
from tests.support.programs import House, Hub, make_house
from tests.support.traced import AGENT, COMMAND, LIFE
from tests.support.waiting import Changes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from broker.link import Connection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LIVES_AT_ONCE = 10
PATIENCE_SECONDS = 60.0

SETTLED = {"succeeded", "failed", "timed_out", "cancelled", "expired", "unknown"}
TOPICS = Topics()

STEPS = {
    *("take", "INSERT-inbox", "INSERT-journal", "COMMIT-take", "committed-take"),
    *("UPDATE-inbox", "COMMIT-begin", "committed-begin", "run", "start", "trace-begin", "trace-end"),
    *("DELETE-inbox", "INSERT-ended", "INSERT-replies", "COMMIT-end", "committed-end"),
    *("publish-events", "publish-answer", "DELETE-replies", "ack", "DELETE-journal", "UPDATE-about"),
}
"""What the points must at least be called: were one never passed, nobody would have died there."""


class Asker:
    """Publishes tasks at sites, and hears the answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard: defaultdict[str, list[str]] = defaultdict(list)
        self._changes = Changes()

    async def ask(self, site: str, task: dict[str, Any]) -> None:
        topic = TOPICS.build(Reply(f"{task['id']}/answer"))
        await self._connection.subscribe(topic)
        await self._connection.publish(TOPICS.build(SiteTasks(site)), json.dumps(task).encode(), reply_topic=topic)

    async def answers(self, task: str, outcome: str) -> list[str]:
        """Return the outcomes that were heard of a task, once `outcome` is one of them or is waited for too long."""
        with suppress(TimeoutError):
            await self._changes.until(lambda: self._has_heard(task, outcome))
        return self._heard[task]

    async def _has_heard(self, task: str, outcome: str) -> bool | None:
        return outcome in self._heard[task] or None

    async def listen(self) -> None:
        async for incoming in self._connection.messages():
            answer = json.loads(incoming.payload)
            self._heard[answer["task"]].append(answer["outcome"])
            incoming.ack()
            self._changes.wake()


class Stage:
    """One broker, one hub, and a site of its own for each case."""

    def __init__(self, house: House, hub: Hub, nursery: Nursery, asker: Asker) -> None:
        self._house = house
        self._hub = hub
        self._nursery = nursery
        self._asker = asker
        self._room = asyncio.Semaphore(LIVES_AT_ONCE)
        self._cases = 0

    async def play_all(self, cases: Iterable[Case]) -> list[Story]:
        """Let cases happen."""
        async with asyncio.TaskGroup() as group:
            playing = [group.create_task(self._play(case)) for case in cases]
        return [one.result() for one in playing]

    async def _play(self, case: Case) -> Story:
        async with self._room:
            self._cases += 1
            name = f"c{self._cases}"
            folder = self._house.folder / name
            folder.mkdir()
            trace = folder / "trace"
            story = Story(case)
            first = await self._agent(folder, case, crash_at=case.crash_at)
            await first.online()
            await self._submit(case, name, trace)
            await first.ended()
            story.lives.append(first)
            if case.then_at is not None:
                second = await self._agent(folder, case, crash_at=case.then_at, from_start=True)
                await second.ended()
                story.lives.append(second)
            last = await self._agent(folder, case)
            await last.online()
            await self._look(story, name, last)
            await last.kill()
            story.runs = _runs(trace)
            return story

    async def _agent(self, folder: Path, case: Case, **how: Any) -> Life:  # noqa: ANN401  as Nursery.agent has it
        return await self._nursery.agent(
            folder,
            **how,
            id=folder.name,
            site=folder.name,
            broker_url=self._house.broker.url,
            plugins=["tests.support.traced"],
            allow_commands=["sh -c **"],
            command_env=[LIFE, AGENT],
            buffer_mode=case.mode,
            buffer_hold_seconds=60,  # in gentle mode, longer than a life
            heartbeat_interval_seconds=3600,  # it says nothing unless there is something to say
        )

    async def _submit(self, case: Case, name: str, trace: Path) -> None:
        is_command = case.way == "command"
        task = {
            "id": name,
            "kind": "command" if is_command else "traced",
            "params": {"argv": ["sh", "-c", COMMAND, str(trace)]} if is_command else {"path": str(trace)},
            "idempotent": case.idempotent,
            "retry": {"max_attempts": 5, "backoff_seconds": 0.05},
        }
        if case.way == "site":
            await self._asker.ask(name, task)
        else:
            await self._hub.post({**task, "site": name})

    async def _look(self, story: Story, name: str, life: Life) -> None:
        """See what has become of a task, once nothing more will."""
        story.task = await self._settled(name, life)
        if story.case.way == "site":
            outcome = "succeeded" if story.task["state"] == "succeeded" else "interrupted"
            story.answers = await self._asker.answers(name, outcome)
        story.gaps = [str(gap["reason"]) for gap in await self._hub.items("/api/gaps", worker=name)]

    async def _settled(self, name: str, life: Life) -> dict[str, Any]:
        task: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while task.get("state") not in SETTLED:
                    answer = await self._hub.http.get(f"/api/tasks/{name}/wait", params={"timeout": 2})
                    task = answer.json() if answer.is_success else {}
        except TimeoutError:
            raise AssertionError(f"{name} has not ended: {task}\n{life.log.read_text()[-4000:]}") from None
        return task


def _runs(trace: Path) -> Counter[str]:
    lines = trace.read_text().splitlines() if trace.exists() else []
    return Counter(line for line in lines if line.startswith("begin"))


@asynccontextmanager
async def make_stage(folder: Path) -> AsyncIterator[Stage]:
    async with make_house(folder) as house, make_nursery(folder) as nursery, asyncio.TaskGroup() as group:
        hub = await house.hub(HUB_ACCEPT_TIMEOUT_SECONDS="3", HUB_LOG_LEVEL="info")
        async with Link(url=house.broker.url, client_id="asker").connect() as connection:
            asker = Asker(connection)
            listening = group.create_task(asker.listen())
            yield Stage(house, hub, nursery, asker)
            listening.cancel()


def assert_all_well(stories: list[Story], folder: Path) -> None:
    wrong = [f"{story.case}: {problem}" for story in stories for problem in story.problems()]
    assert not wrong, "\n".join(wrong)
    assert not list(left_behind(folder)), "a command has outlived its task"


def died_where_told(stories: list[Story]) -> float:
    """Return the share of crashes that were at their point: threads take turns, so not every life passes all."""
    return sum(story.lives[-1].points[-1] == story.case.last_crash for story in stories) / len(stories)


def each_point(whole: Iterable[Story], *, within: bool = True) -> list[Case]:
    """Return a case for each point that the last lives of stories have passed.

    Unless `within`, without the statements of transactions: a crash at any of them leaves what one at its COMMIT does.
    """
    return [
        replace(story.case, then_at=point) if story.case.then_at else replace(story.case, crash_at=point)
        for story in whole
        for point in dict.fromkeys(story.lives[-1].points)
        if within or not re.match("BEGIN|INSERT|UPDATE|DELETE", point)
    ]


def behind(story: Story, point: str) -> Case:
    """Return the case of a crash at the next point of a story."""
    points = story.lives[0].points
    return replace(story.case, crash_at=points[points.index(point) + 1])


def named(stories: Iterable[Story]) -> set[str]:
    """Return the names of all points that stories have passed, without their counts."""
    return {point.split("#")[0] for story in stories for life in story.lives for point in life.points}


async def test_a_task_survives_sigkill_at_every_point_of_its_life(tmp_path: Path) -> None:
    ways = [Case(way, idempotent) for way in ("http", "site") for idempotent in (True, False)]
    async with make_stage(tmp_path) as stage:
        whole = await stage.play_all([*ways, Case("command", idempotent=False)])
        stories = await stage.play_all(each_point(whole))
        assert_all_well([*whole, *stories], tmp_path)
    assert named(whole) >= STEPS
    assert died_where_told(stories) > 0.8


async def test_a_start_after_a_crash_survives_sigkill_at_every_point(tmp_path: Path) -> None:
    ways = [Case("http", idempotent=True), Case("http", idempotent=False)]
    ways += [Case("site", idempotent=False), Case("command", idempotent=True)]
    async with make_stage(tmp_path) as stage:
        queued, begun, ended, process = await stage.play_all(ways)
        left = [
            behind(queued, "committed-take#1"),
            behind(begun, "committed-begin#1"),
            behind(ended, "committed-end#1"),
            behind(process, "start#1"),
        ]
        whole = await stage.play_all([replace(case, then_at=NEVER) for case in left])
        stories = await stage.play_all(each_point(whole, within=False))
        assert_all_well([*whole, *stories], tmp_path)
    assert named(whole) >= {"subscribe", "publish-status", "ack", "run", "reattach", "COMMIT-end", "publish-events"}
    assert died_where_told(stories) > 0.8


async def test_gentle_mode_survives_sigkill_at_every_point(tmp_path: Path) -> None:
    async with make_stage(tmp_path) as stage:
        whole = await stage.play_all(Case("http", idempotent, mode="gentle") for idempotent in (True, False))
        stories = await stage.play_all(each_point(whole, within=False))
        assert_all_well([*whole, *stories], tmp_path)
    assert "COMMIT-end" not in named(whole), "it has held nothing in memory"
    assert died_where_told(stories) > 0.8
