"""What the worker says of itself on its main connection: hello, heartbeat, farewell; and when.

A hello is the birth certificate, retained, and the hub answers it with a sync. The two together measure the clocks as
NTP does (RFC 5905, §8). The next heartbeat tells what came of it, before any event that is stamped by that clock.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Literal

from broker.clock import new_id
from broker.errors import LinkDown
from broker.link import Will
from broker.log import get_logger
from broker.messages import Birth, ClockSample, Farewell, encode
from broker.topics import Heartbeat, Status
from edge_agent.rules import handshake as rules
from edge_agent.rules.handshake import Handshake

if TYPE_CHECKING:
    from broker.messages import HubStatusMessage, Sync, WorkerStatus
    from broker.topics import Topics
    from edge_agent.connection import Connection
    from edge_agent.presence import Name, Presence

FAREWELL_SECONDS = 1.0
"""How long the last word may take."""

HEARTBEAT_EXPIRES_AFTER = 3
"""Intervals after which the broker forgets a retained heartbeat."""

log = get_logger(__name__)


class Greeter:
    """Speaks for the worker on one connection after the other.

    Args:
        name: Who this is.
        topics: Where to.
        presence: What there is to say.

    """

    def __init__(self, name: Name, topics: Topics, presence: Presence) -> None:
        self._worker = name.worker
        self._status = topics.build(Status(name.site, name.worker))
        self._heartbeat = topics.build(Heartbeat(name.site, name.worker))
        self._presence = presence
        self._session = ""
        self._intake = ""
        self._handshake = Handshake()
        self._heard_birth = False
        self._clock: ClockSample | None = None
        self._look = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._farewell: Literal["offline", "stopped"] = "offline"

    @property
    def session(self) -> str:
        """The nonce of the connection."""
        return self._session

    @property
    def is_synced(self) -> bool:
        """Whether the hub that is there has answered."""
        return self._handshake.synced

    def leave(self) -> None:
        """Call the farewell that comes next `stopped`; any other is `offline`."""
        self._farewell = "stopped"

    def will(self) -> Will:
        """Begin a session, and return what the broker says for it when it dies."""
        self._session = new_id()
        return Will(topic=self._status, payload=encode(Farewell(state="offline", session=self._session)))

    def on_connected(self) -> None:
        """Forget what was heard on an earlier connection."""
        self._handshake = rules.begin(asyncio.get_running_loop().time())
        self._heard_birth = False
        self._clock = None

    # -- speaking ----------------------------------------------------------------------------------------------------

    async def open_intake(self, connection: Connection) -> None:
        """Say hello with a new nonce: all that was taken before is held, or in the journal."""
        self._intake = new_id()
        await self.say_hello(connection)

    async def say_hello(self, connection: Connection) -> None:
        """Publish the birth certificate."""
        birth = self._presence.birth(self._session, intake=self._intake, transport=connection.transport)
        await connection.publish(self._status, encode(birth), retain=True)

    async def say_farewell(self, connection: Connection) -> None:
        """Publish the end of the session, if that can be done at once: the connection ends in order, without a will."""
        farewell = Farewell(state=self._farewell, session=self._session)
        with contextlib.suppress(LinkDown, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await connection.publish(self._status, encode(farewell), retain=True)

    async def beat(self, connection: Connection) -> None:
        """Publish how the worker fares."""
        interval = self._presence.profile.heartbeat_interval_seconds
        await connection.publish(
            self._heartbeat,
            encode(self._presence.heartbeat(self._session, self._clock)),
            retain=True,
            expiry_seconds=max(1, round(HEARTBEAT_EXPIRES_AFTER * interval)),
        )

    def beat_now(self) -> None:
        """Let a heartbeat not wait for its time."""
        self._beat_now.set()

    async def keep_beating(self, connection: Connection) -> None:
        """Publish heartbeats until the connection ends."""
        while True:
            self._beat_now.clear()
            await self.beat(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._presence.profile.heartbeat_interval_seconds):
                    await self._beat_now.wait()

    async def keep_greeting(self, connection: Connection) -> None:
        """Say hello whenever it is due, until the connection ends."""
        loop = asyncio.get_running_loop()
        while True:
            self._look.clear()
            due = self._handshake.hello_at
            if due is not None and loop.time() >= due:
                self._handshake = rules.on_hello(self._handshake, loop.time())
                await self.say_hello(connection)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._look.wait()

    def tell_change(self) -> None:
        """Say hello anew, since the worker can do other things now."""
        self._handshake = rules.on_changed(self._handshake, asyncio.get_running_loop().time())
        self._look.set()

    # -- hearing -----------------------------------------------------------------------------------------------------

    def on_sync(self, sync: Sync, heard_at: int) -> None:
        """Take the hub's answer to a hello, heard at `heard_at` milliseconds."""
        self._handshake = rules.on_sync(self._handshake, asyncio.get_running_loop().time())
        if sync.clock:
            echo = sync.clock.model_dump()
            self._clock = ClockSample(boot=self._presence.boot, heard_at=heard_at, **echo)
        self._look.set()

    def on_hub_status(self, status: HubStatusMessage) -> None:
        """Hear that a hub comes or goes."""
        now = asyncio.get_running_loop().time()
        if status.state == "online":
            self._handshake = rules.on_hub_online(
                self._handshake, status.session, was_there=not self._heard_birth, now=now
            )
        else:
            self._handshake = rules.on_hub_offline(self._handshake, status.session, now)
        log.info("hub", state=status.state, session=status.session)
        self._look.set()

    def on_bridge(self, *, is_joined: bool, retained: bool) -> None:
        """Hear whether the site's own broker, if it has one, is joined to the hub's."""
        before, now = self._handshake, asyncio.get_running_loop().time()
        if is_joined:
            self._handshake = rules.on_joined(before, now, retained=retained)
        else:
            self._handshake = rules.on_cut(before, now)
        if self._handshake is not before:
            log.info("bridge", state="joined" if is_joined else "cut")
        self._look.set()

    def on_own_status(self, status: WorkerStatus) -> None:
        """Hear what stands on the worker's own status topic: its birth, unless somebody has written over it."""
        if status.session == self._session:
            self._heard_birth = True
            return
        if isinstance(status, Birth) and self._presence.is_of_another(status):
            # Mosquitto 2.0 does not say that a session was taken over; the other's birth does.
            log.error(
                "worker_id_in_use",
                worker=self._worker,
                reason="another agent runs with this worker's id: give each its own WORKER_ID",
            )
        if not self._heard_birth:
            return  # it is older than our birth, which comes back to us in its turn
        log.info("status_healed", was=status.state, session=status.session)
        self._handshake = rules.on_overwritten(self._handshake, asyncio.get_running_loop().time())
        self._look.set()
