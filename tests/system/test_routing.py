"""The right worker runs it: three sites, nine real workers that differ, and thousands of tasks that ask for something.

What may run where is judged here by rules of the test's own, from traces that the handlers leave outside the system.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from broker.topics import SiteTasks, Topics, WorkerTasks
from tests.support.programs import House, Hub, make_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

Capabilities = dict[str, Any]
Body = dict[str, Any]

PLAIN: Capabilities = {"gpu": False, "memory_mb": 2048, "rack": 3}
WORKERS: dict[str, Capabilities] = {
    "a1": {"gpu": True, "memory_mb": 8192, "rack": 1},
    "a2": {"gpu": True, "memory_mb": 8192, "rack": 1},
    "a3": {"gpu": False, "memory_mb": 1024, "rack": 2, "camera": "axis"},
    "b1": PLAIN,
    "b2": PLAIN,
    "b3": PLAIN,
    "c1": {"gpu": True, "memory_mb": 16384, "rack": 4, "camera": "bosch"},
    "c2": {"gpu": False, "memory_mb": 4096, "rack": 4, "camera": "axis"},
    "c3": {"gpu": False, "memory_mb": 512, "rack": 5},
}
EQUALS = (("a1", "a2"), ("b1", "b2", "b3"))
TASKS = 2000
SEED = 4
SECONDS = 0.2
"""How long a task takes: much more than it costs, or what balances were the scheduler of this machine."""

REQUIREMENTS: tuple[Body, ...] = (
    {},
    {},
    {},
    {"gpu": True},
    {"gpu": False},
    {"rack": 4},
    {"camera": "axis"},
    {"memory_mb": {"min": 4096}},
    {"memory_mb": {"max": 1024}},
    {"memory_mb": {"min": 1024, "max": 4096}},
    {"rack": {"in": [1, 5]}},
    {"camera": {"in": ["axis", "bosch"]}, "memory_mb": {"min": 2000}},
    {"gpu": True, "rack": {"min": 4}},
)
NOBODY_HAS: tuple[Body, ...] = ({"rack": 99}, {"camera": "nosuch"}, {"memory_mb": {"min": 10**6}}, {"fpga": True})


def site_of(worker: str) -> str:
    return f"site-{worker[0]}"


def meets(requires: Body, has: Capabilities) -> bool:
    """Judge as a reader of the manual would: every requirement by itself, and nothing shared with the product."""
    for name, wanted in requires.items():
        value = has.get(name)
        if isinstance(wanted, dict):
            bounds = [value is not None and value >= wanted["min"]] if "min" in wanted else []
            bounds += [value is not None and value <= wanted["max"]] if "max" in wanted else []
            bounds += [value in wanted["in"]] if "in" in wanted else []
            if not all(bounds):
                return False
        elif (False if value is None else value) is not wanted and value != wanted:
            return False
    return True


@dataclass(frozen=True)
class Asked:
    """A task as it is asked for, and how: by HTTP, or on the topic of a site or of a worker."""

    body: Body
    by: str
    site: str | None = None
    worker: str | None = None

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def may_run_at(self) -> set[str]:
        return {
            worker
            for worker, has in WORKERS.items()
            if self.site in (None, site_of(worker))
            and self.worker in (None, worker)
            and meets(self.body["requires"], has)
        }


def draw_tasks(trace: Path) -> list[Asked]:
    dice = random.Random(SEED)  # noqa: S311  no secret
    return [_draw(dice, f"t{number}", trace) for number in range(TASKS)]


def _draw(dice: random.Random, name: str, trace: Path) -> Asked:
    requires = dice.choice(NOBODY_HAS if dice.random() < 0.05 else REQUIREMENTS)
    able = [worker for worker, has in WORKERS.items() if meets(requires, has)]
    known = able if able and dice.random() < 0.9 else sorted(WORKERS)  # else it may be sent where nobody has it
    body: Body = {"id": name, "kind": "trace", "params": {"path": str(trace), "seconds": SECONDS}}
    body |= {"requires": requires, "priority": dice.choice((0, 0, 5))}
    worker = dice.choice(known) if dice.random() < 0.1 else None
    site = site_of(worker or dice.choice(known))
    by = dice.choice(("http", "http", "topic"))
    if by == "http" and worker is None and dice.random() < 0.5:
        return Asked(body, by)
    return Asked(body, by, site, worker)


@dataclass
class Town:
    """A house with a hub and all nine workers."""

    house: House
    hub: Hub
    trace: Path
    ran: list[tuple[str, str]] = field(default_factory=list)

    async def submit(self, asked: Iterable[Asked]) -> None:
        """Ask for everything at once, each in its way."""
        posts, topics = [], defaultdict(list)
        for one in asked:
            where = {name: value for name, value in (("site", one.site), ("worker", one.worker)) if value}
            if one.by == "http":
                posts.append({**one.body, **where})
            else:
                address = WorkerTasks(one.site or "", one.worker) if one.worker else SiteTasks(one.site or "")
                topics[Topics().build(address)].append(json.dumps(one.body))
        async with asyncio.TaskGroup() as group:
            for first in range(0, len(posts), 250):
                group.create_task(self._post(posts[first : first + 250]))
            for topic, lines in topics.items():
                group.create_task(self.house.publish_lines(topic, lines))

        await self.heard_all()

    async def heard_all(self) -> None:
        """Wait until the hub has taken in all that was published so far: it is told of this behind that."""
        answer = await self.house.ask(Topics().build(SiteTasks("site-z")), '{"kind": "nosuch"}')
        assert answer["outcome"] == "rejected", answer

    async def ended(self, ids: Iterable[str]) -> dict[str, Body]:
        """Return all tasks, as they are once each of `ids` has ended."""
        while True:
            tasks = await self.tasks()
            open_ones = [name for name in ids if tasks[name]["state"] not in ENDED]
            if not open_ones:
                return tasks
            await self.hub.task(open_ones[0])

    async def tasks(self, **query: str) -> dict[str, Body]:
        """Return all tasks, page by page."""
        found: dict[str, Body] = {}
        cursor: str | None = None
        while True:
            where = {"limit": "500", **query, **({"cursor": cursor} if cursor else {})}
            answer = await self.hub.http.get("/api/tasks", params=where)
            answer.raise_for_status()
            page = answer.json()
            found |= {item["id"]: item for item in page["items"]}
            if page["next"] is None:
                return found
            cursor = str(page["next"])

    def traces(self) -> list[tuple[str, str]]:
        """Return which task ran at which worker, once for each time."""
        lines = self.trace.read_text().splitlines() if self.trace.exists() else []
        return [(task, worker) for task, _attempt, worker in map(str.split, lines)]

    async def _post(self, bodies: list[Body]) -> None:
        answer = await self.hub.http.post("/api/tasks/batch", json=bodies)
        assert {item["status"] for item in answer.json()["items"]} == {"created"}, answer.text


ENDED = {"succeeded", "failed", "timed_out", "cancelled", "expired"}


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with make_house(tmp_path) as house:
        hub = await house.hub(HUB_LOG_LEVEL="info")
        async with asyncio.TaskGroup() as group:
            for name in WORKERS:
                group.create_task(start(house, name))
        for name in WORKERS:
            await hub.program.logged(rf"worker=.?{name}\b.*state=online")
        yield Town(house, hub, tmp_path / "trace")


async def start(house: House, name: str) -> None:
    settings = {"WORKER_CAPABILITIES": json.dumps(WORKERS[name]), "WORKER_PLUGINS": "tests.support.site_handlers"}
    await house.agent(name, site_of(name), WORKER_LOG_LEVEL="info", **settings)


async def test_two_thousand_tasks_run_where_they_may_and_what_cannot_run_says_why(town: Town) -> None:
    asked = {one.id: one for one in draw_tasks(town.trace)}
    possible = {name for name, one in asked.items() if one.may_run_at}
    assert len(asked) - len(possible) > 50
    await town.submit(asked.values())
    tasks = await town.ended(possible)

    ran = town.traces()
    assert [(task, worker) for task, worker in ran if worker not in asked[task].may_run_at] == []
    assert Counter(task for task, _ in ran) == dict.fromkeys(possible, 1)
    assert {name: tasks[name]["worker"] for name in possible} == dict(ran)
    assert {tasks[name]["state"] for name in possible} == {"succeeded"}

    for name in asked.keys() - possible:
        assert tasks[name]["state"] == "pending"
        missing = {word for word in asked[name].body["requires"] if word in tasks[name]["reason"]}
        assert missing, tasks[name]
        where = asked[name].worker or asked[name].site or "any site"
        assert where in tasks[name]["reason"], tasks[name]

    free = Counter(worker for task, worker in ran if asked[task].worker is None)
    for equals in EQUALS:
        counts = [free[name] for name in equals]
        assert max(counts) <= 1.3 * min(counts), free


async def test_a_task_for_all_runs_once_at_each_worker_that_matches_and_at_no_other(town: Town) -> None:
    cases: dict[str, tuple[Body, set[str]]] = {
        "at-a-site": ({"site": "site-b"}, {"b1", "b2", "b3"}),
        "at-all-sites": ({}, set(WORKERS)),
        "by-a-selector": ({"requires": {"camera": "axis"}}, {"a3", "c2"}),
        "by-both": ({"site": "site-c", "requires": {"memory_mb": {"min": 4096}}}, {"c1", "c2"}),
        "at-one": ({"worker": "a2"}, {"a2"}),
    }
    body: Body = {"kind": "trace", "params": {"path": str(town.trace)}, "target": "all"}
    for name, (where, _) in cases.items():
        await town.hub.post({"id": name, **body, **where})
    await town.hub.post({"id": "by-nobody", **body, "requires": {"camera": "nosuch"}})
    topic = Topics().build(SiteTasks("site-a"))
    answer = await town.house.ask(topic, json.dumps({"id": "by-topic", **body}))
    nameless = await town.house.ask(topic, json.dumps(body))
    here = {"a1", "a2", "a3"}
    for said in (answer, nameless):
        assert (said["outcome"], said["result"]) == (
            "succeeded",
            {"succeeded": 3, "children": dict.fromkeys(sorted(here), "succeeded")},
        )
        cases[str(said["task"])] = ({}, here)

    tasks = await town.ended(cases)
    assert {tasks[name]["state"] for name in cases} == {"succeeded"}
    assert sorted(town.traces()) == sorted(
        (f"{name}:{who}", who) for name, (_, all_of) in cases.items() for who in all_of
    )
    for name, (_, who) in cases.items():
        assert set(await town.tasks(parent=name)) == {f"{name}:{worker}" for worker in who}
    nobody = tasks["by-nobody"]
    assert (nobody["state"], nobody["reason"]) == ("pending", "no online worker at any site has camera = nosuch")


async def test_a_hub_that_is_killed_at_any_point_leaves_no_parent_and_no_child_behind(tmp_path: Path) -> None:
    async with make_house(tmp_path) as house:
        workers = ("a1", "a2", "b1")
        hub = await house.hub()
        await asyncio.gather(*(start(house, name) for name in workers))
        for name in workers:
            await hub.program.logged(rf"worker=.?{name}\b.*state=online")
        body = {"kind": "trace", "params": {"path": str(tmp_path / "trace")}, "target": "all"}
        for number, moment in enumerate(("posted", "expanded", "committed", "ended")):
            seen = len(hub.program.lines)
            posts = [{"id": f"p{number}-{one}", **body} for one in range(25)]
            answer = await hub.http.post("/api/tasks/batch", json=posts)
            assert answer.status_code == 201
            if moment == "ended":
                await hub.task("p3-0")
            elif moment != "posted":
                await hub.program.logged(moment, after=seen)
            await hub.program.kill()
            hub = await house.hub()
            for post in posts:
                parent = await hub.task(str(post["id"]))
                assert (parent["state"], parent["result"]) == (
                    "succeeded",
                    {"succeeded": 3, "children": dict.fromkeys(workers, "succeeded")},
                )
        ran = [tuple(line.split()) for line in (tmp_path / "trace").read_text().splitlines()]
        assert {(task, worker) for task, _, worker in ran} == {
            (f"p{number}-{one}:{name}", name) for number in range(4) for one in range(25) for name in workers
        }
        assert len(set(ran)) == len(ran)  # no attempt ran twice
