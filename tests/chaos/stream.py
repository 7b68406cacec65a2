"""Keeps tasks coming, as clients would that do not give up, and remembers what was accepted.

By HTTP a task is posted, again and again with the same id, until the hub says that it has it. By MQTT it is published,
and published again until the hub knows it; unless that could make it run twice (`Order.once`).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from broker.errors import LinkDown
from broker.link import Connection, Link
from broker.topics import SiteTasks, Topics, WorkerTasks
from tests.chaos.work import Way, order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.house import House
    from tests.chaos.work import Order

AGAIN_SECONDS = 0.3
ASK_SECONDS = 2.0
"""How long a task that was published may take to be known."""

ASK_AT_MOST = 6
"""How often the hub is asked for one that is published once only: the broker may have lost it."""

MOST_UNDER_WAY = 400
PUBLISH_PATIENCE_SECONDS = 5.0


@dataclass(slots=True)
class Sent:
    """What was done for a task, and what came of it. Times are by the steady clock.

    Attributes:
        posts: Each try by HTTP: when, and the status or what went wrong.
        publications: When it was published, whether or not the broker said that it has it.
        accepted_at: When the hub said that it has it.

    """

    order: Order
    posts: list[tuple[float, str]] = field(default_factory=list)
    publications: list[float] = field(default_factory=list)
    accepted_at: float | None = None


class Stream:
    """The tasks of a run.

    Attributes:
        sent: What was submitted so far, by id.
        refused: What the hub answered where it should not have refused.

    """

    def __init__(self, house: House, seed: int, *, rate: float) -> None:
        self._house = house
        self._seed = seed
        self._rate = rate
        self._topics = Topics()
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self._room = asyncio.Semaphore(MOST_UNDER_WAY)
        self.sent: dict[str, Sent] = {}
        self.refused: list[str] = []

    @property
    def accepted(self) -> int:
        """How many tasks the hub has said that it has."""
        return sum(one.accepted_at is not None for one in self.sent.values())

    async def run(self, seconds: float, began: float, *, patience_seconds: float) -> None:
        """Submit for so many seconds after `began`; return when all that can be is accepted, or after that patience."""
        async with asyncio.TaskGroup() as group:
            link = group.create_task(self._stay_connected(), name="publisher")
            try:
                async with asyncio.timeout_at(began + seconds + patience_seconds):
                    await self._submit_all(seconds, began)
            except TimeoutError:
                self.refused.append(f"stream: not everything was accepted {patience_seconds:g} s after all was healed")
            link.cancel()

    async def _submit_all(self, seconds: float, began: float) -> None:
        async with asyncio.TaskGroup() as submitting:
            for number, at in enumerate(self._times(seconds), 1):
                await asyncio.sleep(began + at - time.monotonic())
                await self._room.acquire()
                one = Sent(order(self._seed, number, self._house.city))
                self.sent[one.order.id] = one
                submitting.create_task(self._submit(one), name=one.order.id)

    def _times(self, seconds: float) -> Iterator[float]:
        return (number / self._rate for number in range(int(seconds * self._rate)))

    async def _submit(self, one: Sent) -> None:
        try:
            if one.order.way is Way.HTTP:
                await self._post_until_accepted(one)
            else:
                await self._publish_until_known(one)
        finally:
            self._room.release()

    # -- by HTTP -----------------------------------------------------------------------------------------------------

    async def _post_until_accepted(self, one: Sent) -> None:
        while one.accepted_at is None:
            at = time.monotonic()
            try:
                answer = await self._house.ask("POST", "/api/tasks", json=one.order.submission())
            except httpx.HTTPError as error:
                one.posts.append((at, type(error).__name__))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            one.posts.append((at, str(answer.status_code)))
            if answer.is_success:
                one.accepted_at = time.monotonic()
            elif answer.is_client_error:
                self.refused.append(f"{one.order.id}: {answer.status_code} {answer.text}")
                return
            else:
                await asyncio.sleep(AGAIN_SECONDS)

    # -- by MQTT -----------------------------------------------------------------------------------------------------

    async def _publish_until_known(self, one: Sent) -> None:
        payload = json.dumps(one.order.body()).encode()
        is_published, asked = False, 0
        while one.accepted_at is None and not (one.order.once and asked == ASK_AT_MOST):
            if not is_published:
                is_published = await self._publish(one, payload) or one.order.once
            await asyncio.sleep(ASK_SECONDS)
            known = await self._is_known(one.order.id)
            if known:
                one.accepted_at = time.monotonic()
            elif known is False:
                asked += 1
                is_published = one.order.once

    async def _publish(self, one: Sent, payload: bytes) -> bool:
        """Publish once; tell whether the broker has said that it has it. If not, it may have it all the same."""
        await self._connected.wait()
        connection = self._connection
        if connection is None:
            return False
        site, worker = one.order.site, one.order.worker
        address = WorkerTasks(site, worker) if worker else SiteTasks(site)
        one.publications.append(time.monotonic())
        try:
            async with asyncio.timeout(PUBLISH_PATIENCE_SECONDS):
                await connection.publish(self._topics.build(address), payload)
        except (LinkDown, TimeoutError):
            return False
        return True

    async def _is_known(self, task: str) -> bool | None:
        """Tell whether the hub knows a task; None where it does not say."""
        try:
            answer = await self._house.ask("GET", f"/api/tasks/{task}")
        except httpx.HTTPError:
            return None
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        return True if answer.is_success else None

    async def _stay_connected(self) -> None:
        await Link(url=self._house.broker.url, client_id="chaos-publisher").run(self._serve)

    async def _serve(self, connection: Connection) -> None:
        self._connection = connection
        self._connected.set()
        try:
            async for incoming in connection.messages():
                incoming.ack()
        finally:
            self._connected.clear()
            self._connection = None
