"""A whole agent at a site where MQTT is blocked, with a real hub: no task is lost, and none runs twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from broker import link as broker_link
from broker.clock import new_id
from broker.messages import TaskRequest
from edge_agent import Agent, TaskContext, connecting
from edge_agent.app import App
from edge_agent.intake import Firing
from edge_agent.rules.transport import Limits
from edge_agent.settings import WorkerSettings
from tests.support.hubs import running_hub, settings_for
from tests.support.proxy import Proxy
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker.local import PrivateBroker
    from tests.support.hubs import RunningHub

POLL_SECONDS = 0.5
SLACK_SECONDS = 3.0
"""What a busy machine may add to a poll interval."""


@dataclass
class Site:
    """A site with a worker whose way to the broker, and no other, can be blocked."""

    hub: RunningHub
    way: Proxy
    directory: Path
    runs: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def worker(self, **more: Any) -> AsyncIterator[App]:  # noqa: ANN401  any setting
        """Run the worker, and stop it in order."""
        agent = Agent()

        @agent.task("trace")
        async def trace(ctx: TaskContext) -> str:
            self.runs[ctx.task_id] += 1
            return "traced"

        values: dict[str, Any] = {
            "id": "w1",
            "site": "site-a",
            "root": self.hub.settings.root,
            "broker_url": self.way.url,
            "heartbeat_interval_seconds": 0.5,  # so that a link that hangs is noticed by what waits in it
            "control_plane_url": str(self.hub.http.base_url),
            "poll_interval_seconds": POLL_SECONDS,
            "offline_dir": self.directory,
            "stop_seconds": 0.5,
            **more,
        }
        app = App(WorkerSettings(**values), [agent])
        app.open()
        task = asyncio.create_task(app.run())
        try:
            yield app
        finally:
            app.stop()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await task

    async def shown(self, **wanted: object) -> dict[str, Any]:
        return await self.hub.worker("w1", **wanted)

    async def post(self, *tasks: str, **more: Any) -> None:  # noqa: ANN401
        for task in tasks:
            await self.hub.post({"id": task, "kind": "trace", **more})

    async def all_succeeded(self, *tasks: str) -> None:
        """Wait until all have, each at its first attempt, and see that each has run once."""
        for task in tasks:
            shown = await self.hub.ended(task)
            assert (shown["state"], shown["attempt"], self.runs[task]) == ("succeeded", 1, 1), shown


@pytest.fixture
async def site(broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(broker_link, "OPERATION_TIMEOUT_SECONDS", 1.0)  # a blocked connection is known sooner
    monkeypatch.setattr(connecting, "Limits", partial(Limits, patience_seconds=0.5, try_seconds=0.5))
    port = urlsplit(broker.url).port
    assert port
    async with (
        running_hub(settings_for(broker.url, tmp_path, f"t{new_id()[:12]}")) as hub,
        Proxy(port) as way,
    ):
        yield Site(hub, way, tmp_path / "worker")


def named(prefix: str, count: int = 8) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


async def test_a_blocked_worker_is_given_its_tasks_within_its_interval(site: Site) -> None:
    site.way.cut()
    async with site.worker():
        assert (await site.shown(state="online"))["transport"] == "http"
        began = asyncio.get_running_loop().time()
        await site.post("t1")
        await site.all_succeeded("t1")
        assert asyncio.get_running_loop().time() - began < POLL_SECONDS + SLACK_SECONDS
        await site.post(*named("more"), idempotent=False)
        await site.all_succeeded(*named("more"))


@pytest.mark.parametrize("how", ["cut", "hush"])
async def test_a_block_that_comes_and_goes_loses_no_task_and_doubles_none(site: Site, how: str) -> None:
    async with site.worker():
        await site.shown(state="online", transport="mqtt")
        await site.post(*named("before"), idempotent=False)
        getattr(site.way, how)()
        await site.post(*named("at-the-block"))
        await site.shown(state="online", transport="http")
        await site.post(*named("during"), idempotent=False)
        site.way.heal()
        await site.post(*named("at-the-return"), idempotent=False)
        await site.shown(state="online", transport="mqtt")
        await site.post(*named("after"), idempotent=False)
        for when in ("before", "at-the-block", "during", "at-the-return", "after"):
            await site.all_succeeded(*named(when))


async def test_a_blocked_workers_log_is_read_without_waiting_for_its_interval_each_time(site: Site) -> None:
    site.way.cut()
    size = 2_000_000
    async with site.worker(poll_interval_seconds=5.0, allow_commands=("head **",)):
        await site.shown(state="online", transport="http")
        await site.hub.post({"id": "t1", "kind": "command", "params": {"argv": ["head", "-c", str(size), "/dev/zero"]}})
        assert (await site.hub.ended("t1"))["state"] == "succeeded"
        began = asyncio.get_running_loop().time()
        answer = await site.hub.http.get("/api/tasks/t1/log")
        assert (answer.status_code, len(answer.content)) == (200, size)
        assert asyncio.get_running_loop().time() - began < 3 * 5.0, "a poll, and not one for each of 16 parts"


async def test_a_blocked_worker_that_is_stopped_says_so(site: Site) -> None:
    site.way.cut()
    async with site.worker():
        await site.shown(state="online", transport="http")
    assert (await site.shown(state="offline"))["reason"] == "stopped"
    assert site.hub.hub._gateway._links == {}  # noqa: SLF001  it left in order: there will be no will


async def test_what_ran_while_nothing_could_be_reached_is_told_by_http(site: Site) -> None:
    async with site.worker() as app:
        await site.shown(state="online", transport="mqtt")
        site.way.cut()
        firing = Firing(TaskRequest(id=new_id(), kind="trace"), "code:trace", worth_seconds=None)
        await app.intake.fire(firing, lambda _transaction, _verdict: None)
        task = await first_run(site)
        assert (await site.hub.task(task))["state"] in {"running", "succeeded"}
        assert (await site.hub.ended(task))["state"] == "succeeded"
        assert site.runs[task] == 1


async def test_a_broker_that_has_moved_is_found_by_http(
    site: Site, broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.way.cut()
    word = site.hub.settings.__dict__  # what is frozen for everybody else
    monkeypatch.setitem(word, "public_broker_url", site.way.url)
    async with site.worker(broker_url=None):
        await site.shown(state="online", transport="http")
        monkeypatch.setitem(word, "public_broker_url", broker.url)
        await site.shown(state="online", transport="mqtt")


async def first_run(site: Site) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not site.runs:  # noqa: ASYNC110  the handler tells nobody
            await asyncio.sleep(0.01)
    return next(iter(site.runs))
