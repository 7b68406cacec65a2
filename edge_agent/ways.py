"""The way to the hub: MQTT, and HTTP where MQTT is blocked. Decided in `rules.transport`, done here."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from broker.errors import LinkDown
from broker.log import get_logger
from edge_agent.rules import transport as rules
from edge_agent.rules.transport import Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.link import Link, Will
    from edge_agent.connection import Connection
    from edge_agent.http_link import HttpLink
    from edge_agent.rules.transport import Limits, Transport, Way

log = get_logger(__name__)


class Ways:
    """A link that goes by MQTT when it can, and by HTTP when it must. Each connection says its `transport`.

    On a change of the way `serve` is cancelled on the old one, where it can still say farewell; then that is left in
    order, and `serve` begins on the new one.

    Args:
        mqtt: The main connection.
        http: The other way.
        limits: When to change.

    """

    def __init__(self, mqtt: Link, http: HttpLink, limits: Limits) -> None:
        self._mqtt = mqtt
        self._http = http
        self.limits = limits
        self._way = rules.begin(now=0.0)
        self._changed = asyncio.Event()

    @property
    def transport(self) -> Transport:
        """Which way is in use."""
        return self._way.transport

    @property
    def url(self) -> str:
        """Where the way in use goes."""
        return self._link.url

    @property
    def _link(self) -> Link | HttpLink:
        return self._mqtt if self._way.transport == "mqtt" else self._http

    async def run(
        self,
        serve: Callable[[Connection], Awaitable[None]],
        *,
        will: Callable[[], Will] | None = None,
        on_down: Callable[[LinkDown, float], None] | None = None,
    ) -> None:
        """Connect, `await serve(connection)`, and connect again, this way or that; return when `serve` does."""
        self._way = rules.begin(_now())
        while not await self._go(serve, will, on_down):
            log.warning("transport_changed", transport=self._way.transport, url=self.url)

    async def _go(
        self,
        serve: Callable[[Connection], Awaitable[None]],
        will: Callable[[], Will] | None,
        on_down: Callable[[LinkDown, float], None] | None,
    ) -> bool:
        """Go one way until `serve` returns, and return True; or until the way is to change."""
        transport, link = self._way.transport, self._link

        async def serve_this(connection: Connection) -> None:
            self._move(transport, rules.on_up(self._way, _now()))
            await serve(connection)

        def on_this_down(down: LinkDown, wait_seconds: float) -> None:
            self._move(transport, rules.on_down(self._way, _now()))
            if on_down:
                on_down(down, wait_seconds)

        going = asyncio.create_task(link.run(serve_this, will=will, on_down=on_this_down), name=f"by-{transport}")
        watching = asyncio.create_task(self._watch(transport), name="ways")
        await _first_of(going, watching)
        if not going.cancelled():
            going.result()
            return True
        watching.result()
        return False

    async def _watch(self, transport: Transport) -> None:
        """Find out what is to be found out, until another way is to be taken."""
        while self._way.transport == transport:
            self._changed.clear()
            step, due = rules.next_step(self._way, self.limits) or (None, None)
            if step is not None and due is not None and due <= _now():
                await self._take(step)
                continue
            try:
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
            except TimeoutError:
                pass  # it is due

    async def _take(self, step: Step) -> None:
        limits = self.limits
        match step:
            case Step.ASK_HUB:
                answered = await self._http.reaches_hub()
                way = rules.on_hub_asked(self._way, _now(), limits, answered=answered, jitter=_jitter())
            case Step.TRY_MQTT:
                reached = await self._reaches_broker()
                way = rules.on_mqtt_tried(self._way, _now(), limits, reached=reached, jitter=_jitter())
            case Step.GIVE_UP_HTTP:
                way = rules.on_http_given_up(self._way, _now(), limits)
        self._way = way

    async def _reaches_broker(self) -> bool:
        """Tell whether MQTT can be had: as ourselves, since there is no other who is let in for certain."""
        try:
            async with self._mqtt.connect():
                return True
        except LinkDown as down:
            log.debug("broker_not_reached", url=down.url, reason=down.reason)
            return False

    def _move(self, transport: Transport, way: Way) -> None:
        if self._way.transport == transport:  # else it is the last word of a way that is being left
            self._way = way
            self._changed.set()


async def _first_of(*tasks: asyncio.Task[None]) -> None:
    """Wait until one of `tasks` has ended, then end the others."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _jitter() -> float:
    return random.random()  # noqa: S311  jitter is no secret
