"""The worker's two connections (DESIGN §3), from the first subscription to the farewell.

The *main* one is persistent and carries everything but the site's tasks. The *intake* one is clean and lives inside it
(`edge_agent.site_intake`). It is opened after a hello with a nonce of its own, which says: all that was taken before is
held by this worker, or is in its journal.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.log import get_logger
from edge_agent.greeter import Greeter
from edge_agent.readout import Readout
from edge_agent.reception import Reception
from edge_agent.site_intake import SiteIntake

if TYPE_CHECKING:
    from broker.errors import LinkDown
    from broker.topics import Topics
    from edge_agent.answers import Answers
    from edge_agent.connection import Connection, Link
    from edge_agent.intake import Intake
    from edge_agent.logs import Logs
    from edge_agent.presence import Name, Presence
    from edge_agent.runner import Runner
    from edge_agent.schedule.clockwork import Clockwork
    from edge_agent.store.database import Database
    from edge_agent.store.journal import Journal
    from edge_agent.troubles import Troubles
    from edge_agent.uplink import Uplink

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a session works with, whatever it is connected to.

    Attributes:
        database: Whether the disk takes anything.
        journal: Told when it is at the broker.
        intake: Takes tasks in.
        runner: Told what to stop.
        answers: What is published on response topics.
        logs: What the hub may ask for.
        presence: What the worker says of itself.
        clockwork: Takes what the hub wants to be fired here.

    """

    database: Database
    journal: Journal
    intake: Intake
    runner: Runner
    answers: Answers
    logs: Logs
    presence: Presence
    clockwork: Clockwork


class Session:
    """Keeps the worker connected.

    Args:
        name: Who this is.
        topics: Where to.
        main: The persistent connection.
        intake_link: The clean one, for the site's tasks.
        uplink: The journal's way up.
        parts: What else it works with.
        online: Set while tasks come.
        troubles: Told of what keeps the worker from its hub.

    """

    def __init__(
        self,
        name: Name,
        topics: Topics,
        *,
        main: Link,
        intake_link: Link,
        uplink: Uplink,
        parts: Parts,
        online: asyncio.Event,
        troubles: Troubles,
    ) -> None:
        self._online = online
        self._troubles = troubles
        self._main = main
        self._database = parts.database
        self._journal = parts.journal
        self._intake = parts.intake
        self._uplink = uplink
        self._answers = parts.answers
        self._logs = parts.logs
        self._greeter = Greeter(name, topics, parts.presence)
        self._reception = Reception(
            name,
            topics,
            greeter=self._greeter,
            intake=parts.intake,
            runner=parts.runner,
            uplink=uplink,
            on_renew=self._renew,
            clockwork=parts.clockwork,
            readout=Readout(topics, parts.logs, parts.runner.awaits_its_turn),
        )
        self._site_intake = SiteIntake(intake_link, topics.intake(name.site), self._reception.take, online, troubles)
        self._stopping = False
        self._intake_closed = asyncio.Event()
        self._intake_closed.set()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Stay connected, until cancelled; then say farewell."""
        self._database.on_storage = self._on_storage
        self._on_storage()
        await self._main.run(self._serve, will=self._greeter.will, on_down=self._on_down)

    async def close_intake(self) -> None:
        """Take no more tasks: return once what has come is committed and the intake's connection is closed."""
        self._stopping = True
        self._reception.take_no_more()
        self._room.set()
        self._site_intake.close()
        await self._intake_closed.wait()

    def on_abilities(self) -> None:
        """Let the hub know what the worker can do now."""
        self._greeter.tell_change()

    def leave(self) -> None:
        """Call the end `stopped`, which comes when `run` is cancelled; any other cancellation is `offline`."""
        self._greeter.leave()

    async def _serve(self, connection: Connection) -> None:
        greeter, by_mqtt = self._greeter, connection.transport == "mqtt"
        greeter.on_connected()
        self._uplink.on_hub_away()
        await connection.subscribe(*self._reception.filters)
        if by_mqtt:
            self._journal.on_joined()
        try:
            await self._intake.settled()
            await greeter.open_intake(connection)  # before the intake: a hub knows a worker before it takes a task
            log.info("connected", url=connection.url, transport=connection.transport, session=greeter.session)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reception.receive(connection), name="receive")
                group.create_task(greeter.keep_beating(connection), name="heartbeat")
                group.create_task(greeter.keep_greeting(connection), name="hello")
                group.create_task(self._uplink.run(connection), name="uplink")
                group.create_task(self._answers.run(connection), name="answers")
                if by_mqtt:
                    group.create_task(self._take_from_site(connection), name="intake")
                else:
                    self._online.set()
                    self._troubles.on_online()
        except asyncio.CancelledError:
            await greeter.say_farewell(connection)
            raise
        finally:
            self._online.clear()
            self._uplink.on_hub_away()

    def _on_down(self, down: LinkDown, wait_seconds: float) -> None:
        self._troubles.on_down("broker_link_down", down, wait_seconds)

    # -- the site's tasks ------------------------------------------------------------------------------------------

    async def _take_from_site(self, connection: Connection) -> None:
        """Hold the intake open, and after each time that it was closed say hello first."""
        self._intake_closed.clear()
        try:
            while not self._stopping:
                if self._room.is_set():
                    await self._site_intake.run()
                await self._reception.settled()
                await self._intake.settled()
                if not self._stopping:
                    await self._greeter.open_intake(connection)
                    await self._room.wait()
        finally:
            self._intake_closed.set()

    def _renew(self) -> None:
        """The hub asks for a hello that proves what was taken."""
        self._site_intake.close()

    def _on_storage(self) -> None:
        """Take from the site only while the disk takes it from us; let the hub know."""
        if not self._database.full:
            self._room.set()
        else:
            self._room.clear()
            self._site_intake.close()
            self._logs.give_way()
        self._greeter.beat_now()
