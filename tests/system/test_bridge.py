"""A site with a broker of its own: config/mosquitto/site-bridge.conf and site.acl as they stand, and the hub's broker.

A proxy stands on the way between the two brokers. Each task leaves a line in a file outside the system, so that what
ran twice, or not at all, is seen.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from broker.local import find_client
from broker.topics import Reply, SiteTasks, Topics, WorkerTasks
from hub.rules.access import Kind
from tests.support.brokers import ConfiguredBroker, production, with_bridge
from tests.support.programs import PATIENCE_SECONDS, ROOT, House, Hub, Program
from tests.support.proxy import Proxy
from tests.support.secured import SECRET, SITE, account, link, made, of_hub, of_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

WORKERS = ("w1", "w2")
BRIDGE = "bridge-site-a"
TOPICS = Topics()


@dataclass
class Bridged:
    """The hub's broker and a hub, a site's broker and two agents, and the way between."""

    house: House
    hub: Hub
    agents: dict[str, Program]
    centre: ConfiguredBroker
    site: ConfiguredBroker
    places: tuple[Path, Path]
    way: Proxy

    @property
    def trace(self) -> Path:
        return self.house.folder / "trace"

    def traced(self, task: str | None, **more: object) -> dict[str, Any]:
        """Return a task that leaves `task`, or its made id, in the trace."""
        return {"id": task, "kind": "trace", "params": {"path": str(self.trace)}, **more}

    async def inject(self, where: str, topic: str, *tasks: dict[str, Any]) -> None:
        """Publish tasks at the hub's broker (`centre`) or at the site's."""
        broker, place = (self.centre, self.places[0]) if where == "centre" else (self.site, self.places[1])
        username = "hand" if where == "centre" else "w1"
        command = [find_client("mosquitto_pub"), "-h", "localhost", "-p", str(broker.port), "-q", "1", "-V", "5"]
        command += ["-u", username, "-P", SECRET, "--cafile", str(place / "ca.crt"), "-t", topic, "-l"]
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        lines = (json.dumps({key: value for key, value in task.items() if value is not None}) for task in tasks)
        await process.communicate("\n".join(lines).encode())
        assert process.returncode == 0

    def runs(self) -> Counter[str]:
        """Count the lines of each task in the trace."""
        lines = self.trace.read_text().splitlines() if self.trace.exists() else []
        return Counter(line.split()[0] for line in lines)

    async def ran(self, tasks: Iterable[str], *, without_id: int = 0) -> None:
        """Return once each of `tasks` has left its line, and so many others."""
        wanted = set(tasks)

        async def have() -> bool:
            found = await asyncio.to_thread(self.runs)
            return wanted <= found.keys() and len(found) >= len(wanted) + without_id

        await until(have)

    async def known(self, tasks: Iterable[str]) -> None:
        """Return once the hub knows that each of `tasks` has ended well."""
        for task in tasks:
            await until(partial(self.knows, task))
            assert (await self.hub.task(task))["state"] == "succeeded", task

    async def knows(self, task: str) -> bool:
        """Tell whether the hub has heard of a task."""
        return (await self.hub.http.get(f"/api/tasks/{task}")).status_code != HTTPStatus.NOT_FOUND

    async def workers(self) -> dict[str, tuple[object, object]]:
        """Return state and reason of each worker, as the hub shows them."""
        return {str(one["id"]): (one["state"], one["reason"]) for one in await self.hub.items("/api/workers")}

    async def shows(self, **wanted: tuple[object, object]) -> None:
        """Return once the hub shows that."""

        async def is_so() -> bool:
            return await self.workers() == wanted

        await until(is_so)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once `holds` does: what it asks for can only be asked for."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def site_place(folder: Path, hub_place: Path) -> Path:
    """Return what site-bridge.conf names under /etc/holdfast/site, made as it says there."""
    made(folder, authority=(hub_place / "ca.crt", hub_place / "ca.key"))
    for name in ("server.crt", "server.key"):
        shutil.copy(folder / "mosquitto" / name, folder)
    shutil.copy(hub_place / "ca.crt", folder / "hub-ca.crt")
    shutil.copy(ROOT / "config" / "mosquitto" / "site.acl", folder)
    (folder / "passwords").touch(0o600)
    for worker in WORKERS:
        command = ("mosquitto_passwd", "-b", str(folder / "passwords"), worker, SECRET)
        assert await (await asyncio.create_subprocess_exec(*command)).wait() == 0
    return folder


@pytest.fixture
async def bridged(tmp_path: Path) -> AsyncIterator[Bridged]:
    hand = account("hand", Kind.PUBLISHER)
    hub_place = made(tmp_path / "hub-broker", account(BRIDGE, Kind.BRIDGE), hand)
    places = hub_place, await site_place(tmp_path / "site-broker", hub_place)
    folders = [tmp_path / "centre", tmp_path / "site"]
    for folder in folders:
        folder.mkdir()
    async with AsyncExitStack() as stack:
        centre = stack.enter_context(production(places[0], folders[0]))
        house = House(tmp_path, centre, stack)
        way = await stack.enter_async_context(Proxy(centre.port))
        port = int(way.url.rpartition(":")[2])
        site = stack.enter_context(with_bridge(places[1], folders[1], hub_port=port, password=SECRET))
        hub = await house.hub(**of_hub(places[0], BROKER_URL=f"mqtts://localhost:{centre.port}"))
        agents = await asyncio.gather(*(agent_of(house, name, places[1], site) for name in WORKERS))
        made_up = Bridged(house, hub, dict(zip(WORKERS, agents, strict=True)), centre, site, places, way)
        await made_up.shows(w1=("online", None), w2=("online", None))
        yield made_up


async def agent_of(house: House, name: str, place: Path, site: ConfiguredBroker) -> Program:
    more = {
        "BROKER_URL": f"mqtts://localhost:{site.port}",
        "PLUGINS": "tests.support.site_handlers",
        "HEARTBEAT_INTERVAL_SECONDS": "30",  # as in life: with one each second hardly anything goes unnoticed
    }
    agent = await house.agent(name, SITE, **of_worker(name, place, **more))
    await agent.logged("synced")
    return agent


async def test_tasks_and_answers_pass_over_the_bridge_once(bridged: Bridged) -> None:
    await bridged.hub.post({**bridged.traced("posted"), "site": SITE})
    site_tasks = TOPICS.build(SiteTasks(SITE))
    await bridged.inject("site", site_tasks, bridged.traced("at-site"), bridged.traced(None, labels={"no": "id"}))
    await bridged.inject("centre", site_tasks, bridged.traced("at-centre"))
    await bridged.inject("centre", TOPICS.build(WorkerTasks(SITE, "w2")), bridged.traced("for-w2"))
    named = ["posted", "at-site", "at-centre", "for-w2"]
    await bridged.ran(named)
    await bridged.known(named)

    answer = TOPICS.build(Reply("hand/1"))
    asker = link(bridged.places[0], f"mqtts://localhost:{bridged.centre.port}", "hand", client_id="asker")
    async with asyncio.timeout(PATIENCE_SECONDS), asker.connect() as connection:
        await connection.subscribe(TOPICS.replies_to("hand"))
        task = json.dumps({"kind": "noop", "params": {"asked": 1}}).encode()
        await connection.publish(site_tasks, task, reply_topic=answer, correlation=b"42")
        incoming = await anext(connection.messages())
    assert (incoming.topic, incoming.correlation) == (answer, b"42")
    assert json.loads(incoming.payload)["result"] == {"asked": 1}

    runs = await asyncio.to_thread(bridged.runs)
    assert len(runs) == len(named) + 1
    assert set(runs.values()) == {1}


async def test_a_site_that_is_cut_off_works_on_and_tells_everything_once_afterwards(bridged: Bridged) -> None:
    site_tasks = TOPICS.build(SiteTasks(SITE))
    before = [f"before-{number}" for number in range(30)]
    await bridged.inject("site", site_tasks, *(bridged.traced(task) for task in before))
    bridged.way.cut()  # in the middle of their results
    for program in (bridged.hub.program, *bridged.agents.values()):
        await program.logged(r"\bbridge\b.*state=cut")
    await bridged.shows(w1=("offline", "site_link_down"), w2=("offline", "site_link_down"))

    alone = [f"alone-{number}" for number in range(10)]
    await bridged.inject("site", site_tasks, *(bridged.traced(task) for task in alone))
    once = [f"once-{number}" for number in range(5)]
    await bridged.inject("site", site_tasks, *(bridged.traced(task, idempotent=False) for task in once))
    await bridged.inject("site", TOPICS.build(WorkerTasks(SITE, "w1")), bridged.traced("straight"))
    await bridged.inject("site", site_tasks, bridged.traced(None), bridged.traced(None))
    await bridged.ran([*before, *alone, *once, "straight"])
    assert [task for task in (*alone, *once) if await bridged.knows(task)] == []  # so it is really cut

    await bridged.hub.post({**bridged.traced("posted"), "site": SITE})
    await bridged.inject("centre", site_tasks, bridged.traced("at-centre"), bridged.traced(None))
    await bridged.agents["w2"].kill()  # of this, its will tells the site's broker alone
    assert await bridged.workers() == dict.fromkeys(WORKERS, ("offline", "site_link_down"))

    bridged.way.heal()
    await bridged.shows(w1=("online", None), w2=("offline", "connection_lost"))
    bridged.agents["w2"] = await agent_of(bridged.house, "w2", bridged.places[1], bridged.site)
    named = [*before, *alone, *once, "straight", "posted", "at-centre"]
    await bridged.known(named)
    await bridged.ran(named, without_id=3)
    runs = await asyncio.to_thread(bridged.runs)
    assert {task: count for task, count in runs.items() if count > 1} == {}
    assert len(runs) == len(named) + 3
    assert await bridged.hub.items("/api/gaps") == []


async def test_a_link_that_hangs_is_found_out_and_found_again(bridged: Bridged) -> None:
    bridged.way.hush()
    await bridged.hub.program.logged(
        r"\bbridge\b.*state=cut"
    )  # of its own silence mosquitto 2.0.11 tells nobody at the site
    await bridged.inject("site", TOPICS.build(SiteTasks(SITE)), bridged.traced("meanwhile"))
    await bridged.ran(["meanwhile"])
    bridged.way.heal()
    for agent in bridged.agents.values():
        await agent.logged(r"\bbridge\b.*state=joined")
    await bridged.known(["meanwhile"])
    await bridged.shows(w1=("online", None), w2=("online", None))
    assert (await asyncio.to_thread(bridged.runs))["meanwhile"] == 1
    assert await bridged.hub.items("/api/gaps") == []


async def test_either_broker_may_restart(bridged: Bridged) -> None:
    tasks = []
    for broker in (bridged.site, bridged.centre):
        seen = len(bridged.hub.program.lines)
        broker.kill()
        tasks.append(f"while-{broker.port}-was-gone")
        await bridged.hub.post({**bridged.traced(tasks[-1]), "site": SITE})
        broker.start()
        await bridged.hub.program.logged(r"\bbridge\b.*state=joined", after=seen)
        await bridged.shows(w1=("online", None), w2=("online", None))
        tasks.append(f"after-{broker.port}-was-gone")
        await bridged.inject("site", TOPICS.build(SiteTasks(SITE)), bridged.traced(tasks[-1]))
        await bridged.known(tasks)
    runs = await asyncio.to_thread(bridged.runs)
    assert runs == Counter(tasks)
