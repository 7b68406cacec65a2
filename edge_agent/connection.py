"""What the agent needs of a link, whichever way it goes: `broker.link` by MQTT, `edge_agent.http_link` by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from broker.errors import LinkDown
    from broker.link import Incoming, Will
    from edge_agent.rules.transport import Transport


class Connection(Protocol):
    """A live connection; every call raises `LinkDown` once it is gone."""

    @property
    def transport(self) -> Transport:
        """Which way it goes."""

    @property
    def url(self) -> str:
        """Where to."""

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_seconds: int | None = None,
        reply_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish, and return when that is acknowledged."""

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Ask for what is published on these topics."""

    async def unsubscribe(self, *filters: str) -> None:
        """Ask for it no more."""

    def messages(self) -> AsyncIterator[Incoming]:
        """Yield what comes, for as long as the connection lives; raise `LinkDown` when it ends."""

    def waiting(self) -> int:
        """Return how many messages have come and were not yet yielded."""


class Link(Protocol):
    """How to connect."""

    @property
    def url(self) -> str:
        """Where to."""

    async def run(
        self,
        serve: Callable[[Connection], Awaitable[None]],
        *,
        will: Callable[[], Will] | None = None,
        on_down: Callable[[LinkDown, float], None] | None = None,
    ) -> None:
        """Connect, `await serve(connection)`, and connect again whenever the link goes; return when `serve` does."""
