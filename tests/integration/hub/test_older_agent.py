"""An agent of the first release at this hub: the least that it says, and what it must understand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from broker.messages import Receipt, Sync
from broker.topics import Events, Heartbeat, Status

if TYPE_CHECKING:
    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub

BIRTH = {
    "state": "online",
    "session": "session-1",
    "boot": "boot-1",
    "at": 1790000000000,
    "version": "0.1.0",
    "slots": 4,
    "kinds": ["noop", "sleep"],
    "heartbeat_interval_seconds": 30.0,
    "session_expiry_seconds": 3600,
    "journal": {"stream": "stream-1", "oldest": 1, "newest": 0},
}
HEARTBEAT = {
    "session": "session-1",
    "at": 1790000000500,
    "queued": 0,
    "journal": {"rows": 0, "bytes": 0},
    "written_bytes_today": 0,
    "cpu_percent": 0.5,
    "memory_bytes": 40000000,
    "disk_free_bytes": 8000000000,
}
KNOWN_TO_IT = {"type", "session", "stream", "committed_through", "drop", "send", "credit", "clock"}
"""The fields of a sync in the first release; it refuses what it does not know."""


async def test_an_agent_of_the_first_release_is_taken_and_told_nothing_that_it_does_not_know(
    world: World, hub: RunningHub
) -> None:
    async with world.worker("old", greets=False) as worker:
        await worker.publish(Status("site-a", "old"), json.dumps(BIRTH).encode())
        sync = await worker.next_control(Sync)
        assert set(json.loads(sync.model_dump_json(exclude_none=True))) <= KNOWN_TO_IT
        await worker.publish(Heartbeat("site-a", "old"), json.dumps(HEARTBEAT).encode())
        await hub.worker("old", state="online")
        await hub.post({"id": "t1", "kind": "noop", "worker": "old"})
        assert (await worker.next_assignment()).attempt == 1
        at, told = 1790000001000, {"task": "t1", "attempt": 1}
        events = [
            {"type": "task.accepted", "at": at, **told},
            {"type": "task.started", "at": at, **told},
            {"type": "task.finished", "at": at, **told, "outcome": "succeeded", "result": {"exit_code": 0}},
        ]
        batch = {"stream": "stream-1", "first": 1, "events": events}
        await worker.publish(Events("site-a", "old"), json.dumps(batch).encode())
        assert await worker.next_control(Receipt) == Receipt(stream="stream-1", through=3)
    assert (await hub.ended("t1"))["state"] == "succeeded"
    assert await hub.rejections() == []
