"""The clean connection that takes the site's tasks (DESIGN §3).

The broker hands a dead member of a shared subscription its share as long as the member's session lives, so that session
must die with the connection. It is closed in order: what was handed to this worker comes to its commit.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.log import get_logger
from broker.messages import Via

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker.errors import LinkDown
    from broker.link import Incoming
    from edge_agent.connection import Connection, Link
    from edge_agent.troubles import Troubles

log = get_logger(__name__)


class SiteIntake:
    """Takes the site's tasks from `run` to `close`, again and again.

    Args:
        link: How to connect, with no session to keep.
        pattern: What to subscribe to.
        take: Takes one message in, and acknowledges it.
        online: Set while tasks come.
        troubles: Told of what keeps the worker from its site's tasks.

    """

    def __init__(
        self,
        link: Link,
        pattern: str,
        take: Callable[[Incoming, Via], Coroutine[None, None, None]],
        online: asyncio.Event,
        troubles: Troubles,
    ) -> None:
        self._troubles = troubles
        self._link = link
        self._pattern = pattern
        self._take = take
        self._online = online
        self._closing = asyncio.Event()
        self._is_open = False

    def close(self) -> None:
        """Let `run` come to its end, now or as soon as it begins."""
        self._closing.set()

    async def run(self) -> None:
        """Take tasks until `close`; return when all that has come is committed, and the connection is closed."""
        try:
            async with asyncio.TaskGroup() as group:
                link = group.create_task(self._link.run(self._serve, on_down=self._on_down), name="intake-link")
                await self._closing.wait()
                if not self._is_open:
                    link.cancel()
        finally:
            self._closing.clear()
            self._online.clear()

    async def _serve(self, connection: Connection) -> None:
        self._is_open = True
        try:
            await connection.subscribe(self._pattern)
            self._online.set()
            self._troubles.on_online()
            log.info("online", topic=self._pattern)
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(connection, group), name="read-site-tasks")
                await self._closing.wait()
                self._online.clear()
                # Between UNSUBACK and here nothing more is handed to us; what was comes to its commit.
                await connection.unsubscribe(self._pattern)
                while connection.waiting():  # noqa: ASYNC110  the reader has them within a turn of the loop
                    await asyncio.sleep(0)
                reader.cancel()
        finally:
            self._is_open = False

    async def _read(self, connection: Connection, group: asyncio.TaskGroup) -> None:
        async for incoming in connection.messages():
            group.create_task(self._take(incoming, Via.SITE), name="take-from-site")

    def _on_down(self, down: LinkDown, wait_seconds: float) -> None:
        self._online.clear()
        self._troubles.on_down("intake_link_down", down, wait_seconds)
