"""One broker for all tests of the hub: each test has a root of its own, and so a world of its own."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import new_id
from broker.local import PrivateBroker
from broker.topics import Topics
from tests.support.hubs import RunningHub, running_hub, settings_for
from tests.support.workers import asker, scripted_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from hub.settings import HubSettings
    from tests.support.workers import Asker, ScriptedWorker


@dataclass(frozen=True)
class World:
    """A root on a broker, and a directory: hubs, workers and askers of one test meet here."""

    broker_url: str
    directory: Path
    topics: Topics = field(default_factory=lambda: Topics(f"t{new_id()[:12]}"))

    def settings(self, **more: Any) -> HubSettings:  # noqa: ANN401
        return settings_for(self.broker_url, self.directory, self.topics.root, **more)

    def hub(self, *, linked: bool = True, **more: Any) -> AbstractAsyncContextManager[RunningHub]:  # noqa: ANN401
        return running_hub(self.settings(**more), linked=linked)

    def worker(
        self,
        worker: str = "w1",
        site: str = "site-a",
        **profile: Any,  # noqa: ANN401
    ) -> AbstractAsyncContextManager[ScriptedWorker]:
        return scripted_worker(self.broker_url, self.topics, worker, site, **profile)

    def asker(self, *listens: str) -> AbstractAsyncContextManager[Asker]:
        return asker(self.broker_url, self.topics, *listens)

    def site_topic(self, site: str = "site-a") -> str:
        return f"{self.topics.root}/v1/sites/{site}/tasks"

    def worker_topic(self, worker: str = "w1", site: str = "site-a") -> str:
        return f"{self.topics.root}/v1/sites/{site}/workers/{worker}/tasks"


@pytest.fixture(scope="session")
def broker() -> Iterator[PrivateBroker]:
    with PrivateBroker() as running:
        yield running


@pytest.fixture
def world(broker: PrivateBroker, tmp_path: Path) -> World:
    return World(broker.url, tmp_path)


@pytest.fixture
async def hub(world: World) -> AsyncIterator[RunningHub]:
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(world.hub())
