"""Finds the broker, by its setting or from the hub, and keeps a session there, for as long as the agent runs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from broker.link import Link
from broker.messages import Bootstrap
from broker.topics import Events, Topics
from edge_agent.bootstrap import find_broker, wait_for_move
from edge_agent.http_link import HttpLink
from edge_agent.rules.transport import Limits
from edge_agent.session import Session
from edge_agent.uplink import Uplink
from edge_agent.ways import Ways

if TYPE_CHECKING:
    from broker.link import Account
    from edge_agent.offline import OfflineDir
    from edge_agent.presence import Name
    from edge_agent.session import Parts
    from edge_agent.settings import WorkerSettings


class Connecting:
    """The worker's connections.

    Args:
        settings: Where the hub is, and the broker, if that is known.
        account: Who the worker is to them.
        offline: Where the broker's last address is kept.
        parts: What a session works with.

    Attributes:
        online: Set while tasks come.
        session: The one that is kept now, or was last.

    """

    def __init__(self, settings: WorkerSettings, account: Account, offline: OfflineDir, parts: Parts) -> None:
        self.online = asyncio.Event()
        self.session: Session | None = None
        self._settings = settings
        self._account = account
        self._offline = offline
        self._parts = parts
        self._uplink: Uplink | None = None
        self._ways: Ways | None = None

    @property
    def hub_is_there(self) -> bool:
        """Whether a hub has answered, and takes what the journal has."""
        return self._uplink is not None and self._uplink.is_open

    def say_hello(self) -> None:
        """Let the hub know what the worker can do now."""
        if self.session:
            self.session.on_abilities()

    async def run(self, name: Name) -> None:
        """Stay connected, wherever the broker moves, until cancelled."""
        settings = self._settings
        if settings.broker_url is not None:
            await self._connect_to(name, Bootstrap(broker_url=settings.broker_url, root=settings.root))
            return
        hub, poll = settings.control_plane_url, settings.poll_interval_seconds
        place = await find_broker(hub, self._account, self._offline, poll_interval_seconds=poll)
        while True:
            async with asyncio.TaskGroup() as group:
                session = group.create_task(self._connect_to(name, place), name="session")
                place = await wait_for_move(
                    place, hub, self._account, self._offline, is_online=self._has_broker, interval=self._ask_interval
                )
                session.cancel()

    async def close_intake(self) -> None:
        """Take no more tasks; return once what has come is committed."""
        if self.session:
            await self.session.close_intake()

    async def flushed(self) -> None:
        """Return when the hub has all that the journal has."""
        if self._uplink:
            await self._uplink.flushed()

    def leave(self) -> None:
        """Call the end `stopped`, which comes when `run` is cancelled."""
        if self.session:
            self.session.leave()

    async def _connect_to(self, name: Name, place: Bootstrap) -> None:
        self.session = self._make_session(name, place.broker_url, Topics(place.root))
        await self.session.run()

    def _has_broker(self) -> bool:
        """Tell whether the broker is where it was: by HTTP, too, a worker may learn that it has moved."""
        return self.online.is_set() and self._ways is not None and self._ways.transport == "mqtt"

    def _ask_interval(self) -> float:
        """Return how many seconds to wait before the hub is asked; by HTTP no less than until MQTT is tried again."""
        poll = self._settings.poll_interval_seconds
        if self._ways and self._ways.transport == "http":
            return max(poll, self._ways.limits.try_seconds)
        return poll

    def _make_session(self, name: Name, broker_url: str, topics: Topics) -> Session:
        settings, parts = self._settings, self._parts
        link = partial(Link, url=broker_url, account=self._account)
        by_http = HttpLink(
            url=settings.control_plane_url,
            site=name.site,
            worker=name.worker,
            root=topics.root,
            poll_interval_seconds=settings.poll_interval_seconds,
            account=self._account,
        )
        by_mqtt = link(
            client_id=name.worker,
            session_expiry_seconds=settings.session_expiry_seconds,
            # What the broker has kept for an earlier journal may have run by that: this one could not tell.
            starts_clean=lambda: parts.journal.is_new,
        )
        self._ways = Ways(by_mqtt, by_http, Limits(ask_seconds=settings.poll_interval_seconds))
        self._uplink = Uplink(
            parts.journal,
            topics.build(Events(name.site, name.worker)),
            asyncio.get_running_loop().time,
            on_prompt=parts.database.allow_holding,
        )
        return Session(
            name,
            topics,
            main=self._ways,
            intake_link=link(client_id=f"{name.worker}-intake"),
            uplink=self._uplink,
            parts=parts,
            online=self.online,
        )
