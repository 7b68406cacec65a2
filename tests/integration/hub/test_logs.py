"""`GET /api/tasks/{id}/log`, with a worker that answers what the test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from broker.messages import MAX_PART_BYTES, LogPart, ReadLog, encode
from hub import logs
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.workers import soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.hub.conftest import World
    from tests.support.hubs import RunningHub
    from tests.support.workers import ScriptedWorker

pytestmark = pytest.mark.anyio

PART = b"x" * MAX_PART_BYTES


@pytest.fixture
async def worker(world: World, hub: RunningHub) -> AsyncIterator[ScriptedWorker]:
    """A worker that has begun task `t1`."""
    async with world.worker() as one:
        await hub.worker("w1", state="online")
        await hub.post({"id": "t1", "kind": "noop"})
        await one.accept(await one.next_assignment())
        await hub.task("t1", state="running")
        yield one


async def answer(worker: ScriptedWorker, order: ReadLog, content: bytes = b"", **more: Any) -> None:  # noqa: ANN401
    part = LogPart(request=order.request, **{"offset": order.offset or 0, "kept": True, **more}).with_content(content)
    await worker.connection.publish(order.reply, encode(part))


async def asked(worker: ScriptedWorker) -> ReadLog:
    return await worker.next_control(ReadLog)


@asynccontextmanager
async def asking(hub: RunningHub, **query: Any) -> AsyncIterator[asyncio.Task[httpx.Response]]:  # noqa: ANN401
    task = asyncio.create_task(hub.http.get("/api/tasks/t1/log", params=query))
    yield task
    await soon(task)


async def test_part_after_part_is_asked_for_until_the_end_that_there_was(
    hub: RunningHub, worker: ScriptedWorker
) -> None:
    size = MAX_PART_BYTES + 3
    async with asking(hub) as response:
        order = await asked(worker)
        assert (order.task, order.attempt, order.offset, order.wait_seconds) == ("t1", 1, 0, 0)
        await answer(worker, order, PART, size=size, open=True)
        order = await asked(worker)
        assert order.offset == MAX_PART_BYTES
        await answer(worker, order, b"end and more", size=size + 1000, open=True)  # it has grown meanwhile
        assert (await response).content == PART + b"end"
    assert worker.control.empty()


async def test_what_was_dropped_before_it_was_read_is_told_where_it_is_missing(
    hub: RunningHub, worker: ScriptedWorker
) -> None:
    async with asking(hub) as response:
        await answer(worker, await asked(worker), b"old", size=100)
        await answer(worker, await asked(worker), b"new", offset=97, first=97, size=100)
        gap = b"\n[holdfast: 94 bytes are not here: they were dropped before they were read]\n"
        assert (await response).content == b"old" + gap + b"new"


async def test_a_log_that_has_lost_its_end_ends_there(hub: RunningHub, worker: ScriptedWorker) -> None:
    async with asking(hub) as response:
        await answer(worker, await asked(worker), b"before", size=100, open=True)
        await answer(worker, await asked(worker), offset=4, size=4, open=True)  # a power cut has taken it back
        assert (await response).content == b"before"


async def test_a_worker_that_cannot_read_it_is_named(hub: RunningHub, worker: ScriptedWorker) -> None:
    async with asking(hub) as response:
        await answer(worker, await asked(worker), problem="its disk does not give it: Input/output error")
        found = await response
    assert found.status_code == 502
    assert found.json()["worker"] == "w1"
    assert found.json()["detail"] == "w1 cannot read the log: its disk does not give it: Input/output error"


async def test_who_follows_may_ask_before_there_is_a_worker(world: World, hub: RunningHub) -> None:
    await hub.post({"id": "t1", "kind": "noop"})
    assert (await hub.http.get("/api/tasks/t1/log")).json()["detail"] == "task t1 has no attempt: it is pending"
    async with asking(hub, follow=True) as response, world.worker() as worker:
        await worker.accept(await worker.next_assignment())
        await answer(
            worker, await asked(worker), kept=False
        )  # it has not heard of the task, as far as its reader knows
        await answer(worker, await asked(worker), kept=False, open=True)
        await answer(worker, await asked(worker), b"at last\n", size=8, open=True)
        await answer(worker, await asked(worker), size=8)
        assert (await response).content == b"at last\n"


async def test_an_answer_to_another_question_is_none(hub: RunningHub, worker: ScriptedWorker) -> None:
    async with asking(hub) as response:
        order = await asked(worker)
        await answer(worker, order.model_copy(update={"request": "0" * 32}), b"forged", size=6)
        await worker.connection.publish(order.reply, b"not even JSON")
        await answer(worker, order, b"right", size=5)
        assert (await response).content == b"right"


async def test_who_follows_and_leaves_is_asked_for_no_more(hub: RunningHub, worker: ScriptedWorker) -> None:
    async def give_the_first() -> None:
        await answer(worker, await asked(worker), b"one\n", size=4, open=True)

    giving = asyncio.create_task(give_the_first())
    async with hub.http.stream("GET", "/api/tasks/t1/log", params={"follow": "true"}) as response:
        await giving
        assert await soon(anext(aiter(response.aiter_raw()))) == b"one\n"
        order = await asked(worker)
        assert order.wait_seconds > 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while hub.hub._logs._asked:  # noqa: SLF001  the answer that nobody waits for any more
            await hub.get("/health")
    await answer(worker, order, b"two\n", size=8, open=True)
    async with asking(hub, tail_bytes=3) as asking_again:
        order = await asked(worker)
        assert (order.offset, order.tail) == (None, 3)
        await answer(worker, order, b"ne\n", offset=1, size=4)
        found = await asking_again
    assert (found.content, found.headers["x-log-offset"], found.headers["x-log-size"]) == (b"ne\n", "1", "4")


async def test_a_log_that_cannot_be_sent_to_its_end_does_not_look_whole(
    hub: RunningHub, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "ANSWER_SECONDS", 0.2)

    async def give_the_first_alone() -> None:
        await answer(worker, await asked(worker), b"begun", size=100)

    giving = asyncio.create_task(give_the_first_alone())
    async with hub.http.stream("GET", "/api/tasks/t1/log") as response:
        await giving
        chunks = aiter(response.aiter_raw())
        assert await anext(chunks) == b"begun"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(chunks)
    assert (await hub.get("/health"))["status"] == "ok"


async def test_a_log_that_is_dropped_while_it_is_read_does_not_look_whole(
    hub: RunningHub, worker: ScriptedWorker
) -> None:
    response = asyncio.create_task(hub.http.get("/api/tasks/t1/log"))
    await answer(worker, await asked(worker), b"the first of it", size=100)
    await answer(worker, await asked(worker), offset=0, size=0, kept=False)
    with pytest.raises(httpx.RemoteProtocolError):
        await soon(response)
