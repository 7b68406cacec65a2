"""Finds the broker, by its setting or from the hub, and keeps a session there, for as long as the agent runs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from broker.link import Link
from broker.log import get_logger
from broker.messages import Bootstrap
from broker.topics import Events, Topics
from edge_agent.bootstrap import find_broker, wait_for_move
from edge_agent.http_link import HttpLink
from edge_agent.presence import Name
from edge_agent.rules.transport import Limits
from edge_agent.session import Session
from edge_agent.status import State
from edge_agent.troubles import Troubles
from edge_agent.uplink import Uplink
from edge_agent.ways import Ways

if TYPE_CHECKING:
    from broker.account import Account
    from edge_agent.identity import Identity
    from edge_agent.offline import OfflineDir
    from edge_agent.rules.transport import Transport
    from edge_agent.session import Parts
    from edge_agent.settings import WorkerSettings


log = get_logger(__name__)


class Connecting:
    """The worker's connections.

    Args:
        identity: Who the worker is; its settings say where the hub is, and the broker, if that is known.
        offline: Where the broker's last address is kept.
        parts: What a session works with.

    Attributes:
        online: Set while tasks come.
        session: The one that is kept now, or was last.
        troubles: What keeps the worker from its hub.

    """

    def __init__(self, identity: Identity, offline: OfflineDir, parts: Parts) -> None:
        self.online = asyncio.Event()
        self.session: Session | None = None
        self.troubles = Troubles(time.monotonic)
        self._identity = identity
        self._offline = offline
        self._parts = parts
        self._uplink: Uplink | None = None
        self._ways: Ways | None = None

    @property
    def transport(self) -> Transport | None:
        """Which way is in use; None until there is any."""
        return self._ways.transport if self._ways else None

    @property
    def settings(self) -> WorkerSettings:
        """The settings, with what enrolment has told by now."""
        return self._identity.settings

    @property
    def state(self) -> State:
        """How far the worker has come."""
        if self._identity.may_be_enrolled:
            return State.ENROLLING
        if not self.online.is_set():
            return State.CONNECTING
        return State.ONLINE if self.hub_is_there else State.ALONE

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
        await self._enrol(name.worker)
        name = Name(self.settings.site, name.worker)  # which enrolment may have told
        self._claim_directory(name)
        settings = self.settings
        if settings.broker_url is not None:
            await self._connect_to(name, Bootstrap(broker_url=settings.broker_url, root=settings.root))
            return
        hub, poll = settings.control_plane_url, settings.poll_interval_seconds
        account, enrolled = self._identity.account, self._identity.bootstrap
        place = await find_broker(hub, account, self._offline, poll_interval_seconds=poll, enrolled=enrolled)
        while True:
            async with asyncio.TaskGroup() as group:
                session = group.create_task(self._connect_to(name, place), name="session")
                place = await wait_for_move(
                    place,
                    hub,
                    account,
                    self._offline,
                    is_online=self._has_broker,
                    interval=self._ask_interval,
                    enrolled=enrolled,
                )
                session.cancel()

    async def _enrol(self, worker: str) -> None:
        if self._identity.may_be_enrolled:
            from edge_agent.self_enrolment import SelfEnrolment  # noqa: PLC0415  once in an agent's life

            await SelfEnrolment(self.settings, worker).run(self._identity)

    def _claim_directory(self, name: Name) -> None:
        """Keep whose results are in the offline directory, and warn if there are another's."""
        before = self._offline.belongs_to(name.site, name.worker)
        waiting = self._parts.journal.depth.rows
        if before and waiting > 1:  # one says that the agent has started
            remedy = "what waits in it is reported by the new name; edge-agent buffer shows what that is"
            was, now = f"{before[1]} at {before[0]}", f"{name.worker} at {name.site}"
            log.warning("offline_dir_of_another", was=was, now=now, waiting=waiting, remedy=remedy)

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
        poll = self.settings.poll_interval_seconds
        if self._ways and self._ways.transport == "http":
            return max(poll, self._ways.limits.try_seconds)
        return poll

    def _make_session(self, name: Name, broker_url: str, topics: Topics) -> Session:
        settings, parts = self.settings, self._parts
        account = self._identity.account
        link = partial(Link, url=broker_url)
        by_http = HttpLink(
            url=settings.control_plane_url,
            site=name.site,
            worker=name.worker,
            root=topics.root,
            poll_interval_seconds=settings.poll_interval_seconds,
            renewed=account,
        )
        by_mqtt = link(
            renewed=account,
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
            intake_link=link(client_id=f"{name.worker}-intake", renewed=lambda: _of_intake(account())),
            uplink=self._uplink,
            parts=parts,
            online=self.online,
            troubles=self.troubles,
        )


def _of_intake(account: Account) -> Account:
    """Return the account of the second connection: a worker's first one is pinned to its client id at the broker."""
    return replace(account, username=account.intake_username or account.username)
