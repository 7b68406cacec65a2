"""A hub in the test's own event loop, on a real broker and a real database file."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from broker.topics import Topics
from hub.app import Hub
from hub.listening import listen
from hub.settings import HubSettings
from tests.support.waiting import Changes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

Shape = dict[str, Any]


def settings_for(broker_url: str, directory: Path, root: str = "edge", **more: Any) -> HubSettings:  # noqa: ANN401
    """Return the settings of a hub with its database in `directory`; its MQTT client id is of its root."""
    return HubSettings(
        **{
            "http_port": 0,
            "broker_url": broker_url,
            "root": root,
            "client_id": f"hub-{root}",
            "database_url": f"sqlite:///{directory}/hub.db",
            **more,
        }
    )


@dataclass
class RunningHub:
    """A hub that serves, and the HTTP client to ask it."""

    hub: Hub
    settings: HubSettings
    http: httpx.AsyncClient
    changes: Changes = field(default_factory=Changes)

    @property
    def topics(self) -> Topics:
        """The topics of its root."""
        return Topics(self.settings.root)

    async def get(self, path: str, **query: str | float) -> Shape:
        """Return what a GET answers, which must be 200."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        shape: Shape = answer.json()
        return shape

    async def post(self, body: Shape, status: int = 201) -> Shape:
        """Post a task, which must be answered with `status`."""
        answer = await self.http.post("/api/tasks", json=body)
        assert answer.status_code == status, answer.text
        shape: Shape = answer.json()
        return shape

    async def ended(self, task: str) -> Shape:
        """Wait for the end of a task by the API's own means."""
        return await self.get(f"/api/tasks/{task}/wait", timeout=15)

    async def task(self, task: str, **wanted: object) -> Shape:
        """Wait until a task exists and shows all that is wanted."""
        return await self.changes.until(lambda: self._look(f"/api/tasks/{task}", wanted))

    async def worker(self, worker: str, **wanted: object) -> Shape:
        """Wait until a worker is known and shows all that is wanted."""
        return await self.changes.until(lambda: self._look(f"/api/workers/{worker}", wanted))

    async def rejections(self) -> list[Shape]:
        """Return what was refused, newest first."""
        items: list[Shape] = (await self.get("/api/rejections"))["items"]
        return items

    async def until(self, look: Callable[[], Awaitable[Shape | None]]) -> Shape:
        """Wait until `look`, asked after each change in the hub, finds something."""
        return await self.changes.until(look)

    async def connected(self) -> None:
        """Wait until the hub has its link."""
        await self.hub._wire.connected.wait()  # noqa: SLF001

    async def deadlines_passed(self) -> None:
        """Wait until the hub has looked after its deadlines: a task expires that nobody can run."""
        task = await self.post({"kind": "noop", "worker": "nobody", "expires_in_seconds": 0.05})
        assert (await self.ended(task["id"]))["state"] == "expired"

    async def _look(self, path: str, wanted: dict[str, object]) -> Shape | None:
        answer = await self.http.get(path)
        if answer.status_code == 404:
            return None
        shape: Shape = answer.json()
        return shape if all(shape[name] == value for name, value in wanted.items()) else None


@contextlib.asynccontextmanager
async def running_hub(settings: HubSettings, *, linked: bool = True) -> AsyncIterator[RunningHub]:
    """Run a hub until the block is left; where `linked`, begin when it has its link to the broker."""
    listener = listen(settings)
    hub = Hub(settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as http, asyncio.TaskGroup() as group:
        running = RunningHub(hub, settings, http)
        _listen(hub, running.changes)
        serving = group.create_task(hub.run(listener))
        try:
            if linked:
                await running.connected()
            yield running
        finally:
            hub.stop()
            await serving


def _listen(hub: Hub, changes: Changes) -> None:
    """Be told of every change: of tasks after the commit, of workers when they come, go or sync."""
    hub._feed.listen(changes.wake)  # noqa: SLF001
    hub._attendance.listen(changes.wake)  # noqa: SLF001
