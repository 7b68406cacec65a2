"""The agent as a whole: what it is made of, how it starts, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from functools import partial
from typing import TYPE_CHECKING

from broker.access import account_of
from broker.backoff import delay_seconds
from broker.clock import now_ms
from broker.link import Link
from broker.log import get_logger
from broker.messages import Bootstrap
from broker.topics import Events, Topics
from edge_agent import plugins
from edge_agent.abilities import Abilities
from edge_agent.answers import Answers
from edge_agent.bootstrap import find_broker, wait_for_move
from edge_agent.errors import StorageClosed, StorageCorrupt, StorageError
from edge_agent.executors import Registry
from edge_agent.http_link import HttpLink
from edge_agent.intake import Intake
from edge_agent.offline import OfflineDir
from edge_agent.presence import Name, Presence, Profile
from edge_agent.rules.transport import Limits
from edge_agent.runner import Runner
from edge_agent.session import Session
from edge_agent.store import aside, boots, inbox
from edge_agent.store.database import Database
from edge_agent.store.journal import Journal
from edge_agent.store.sqlite import connect
from edge_agent.timers import Timers
from edge_agent.uplink import Uplink
from edge_agent.ways import Ways

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from edge_agent.framework import Agent
    from edge_agent.settings import WorkerSettings

FORGET_INTERVAL_SECONDS = 3600.0
MS_A_DAY = 24 * 3600 * 1000
BYTES_A_MB = 1_000_000

CLOSE_INTAKE_SECONDS = 2.0
INTERRUPT_SECONDS = 3.0
FLUSH_SECONDS = 2.0
"""How long each phase of a stop may take, beside WORKER_STOP_SECONDS for what runs."""

log = get_logger(__name__)


class App:
    """One agent: `open` it, then `run` it until `stop`.

    Args:
        settings: Its settings.
        agents: Handlers beside those of the plugins.

    Raises:
        PluginError: If a plugin cannot be used.

    """

    def __init__(self, settings: WorkerSettings, agents: Sequence[Agent] = ()) -> None:
        self.settings = settings
        self.account = account_of(settings, "WORKER_")
        everyone = [*agents, *(one for one in plugins.load(settings.plugins) if one not in agents)]
        self.registry = Registry.of(
            (handler for agent in everyone for handler in agent.handlers.values()),
            allow_commands=settings.allow_commands,
        )
        self.abilities = Abilities(self.registry.kinds, settings.capabilities)
        self.abilities.listen(self._on_abilities)
        self._timers = [timer for agent in everyone for timer in agent.timers]
        self.offline = OfflineDir(settings.offline_dir)
        self.name = Name(settings.site, settings.id or "")
        self.online = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._build()

    def _build(self) -> None:
        """Make everything that stands on the database."""
        settings = self.settings
        hold_seconds = settings.buffer_hold_seconds if settings.buffer_mode == "gentle" else None
        self.database = Database(settings.database, hold_seconds=hold_seconds)
        self.journal = Journal(self.database, max_bytes=int(settings.buffer_max_mb * BYTES_A_MB))
        self.answers = Answers(self.database)
        self.runner = Runner(
            slots=settings.slots,
            executors=self.registry.kinds,
            abilities=self.abilities,
            database=self.database,
            journal=self.journal,
            answers=self.answers,
            hub_is_there=self._hub_is_there,
        )
        self.intake = Intake(
            database=self.database,
            journal=self.journal,
            runner=self.runner,
            answers=self.answers,
            abilities=self.abilities,
            hub_is_there=self._hub_is_there,
        )
        self._presence = self._make_presence()
        self.session: Session | None = None
        self._uplink: Uplink | None = None
        self._ways: Ways | None = None

    def open(self) -> None:
        """Take the offline directory and see that the database can be written. Raises `StorageError`."""
        self.offline.open()
        try:
            connect(self.settings.database).close()
        except StorageCorrupt as error:
            aside.begin_anew(self.settings.database, error.reason)
        if not self.name.worker:
            self.name = Name(self.settings.site, self.offline.worker_id())

    async def run(self) -> None:
        """Run until `stop`, SIGTERM or SIGINT; a second signal stops at once.

        A database that turns out to be damaged is set aside, and the agent begins anew with another.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        damaged = 0
        try:
            while not await self._run_on_one_file():
                await asyncio.to_thread(aside.begin_anew, self.settings.database, self.database.reason)
                if damaged:  # a disk that fails again and again is not to be worn out
                    await self._pause(delay_seconds(damaged, random.random()))  # noqa: S311  jitter is no secret
                damaged += 1
                self._build()
        finally:
            self.offline.close()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        log.info("stopped", worker=self.name.worker)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _run_on_one_file(self) -> bool:
        """Run until `stop`, and return True; or until the database turns out to be damaged."""
        try:
            self.database.open()
            await self._load()
            async with asyncio.TaskGroup() as group:
                runner = group.create_task(self.runner.run(), name="runner")
                work = [
                    group.create_task(self._stay_connected(), name="session"),
                    group.create_task(self._run_timers(), name="timers"),
                    group.create_task(self._forget_old_ids(), name="forget"),
                    group.create_task(self._watch_storage(), name="storage"),
                ]
                await self._stopping.wait()
                await self._wind_down(runner, work)
        except* StorageClosed:
            if not self.database.reason:
                raise
        finally:
            await self.database.close()
        return not self.database.reason

    async def _load(self) -> None:
        """Take up what the last run left; say first by whose clock all that follows is."""
        await self.journal.load()
        begin = partial(boots.begin, journal=self.journal, boot=self._presence.boot, at=now_ms())
        try:
            await self.database.commit(begin, durable=True)
        except StorageClosed:
            raise
        except StorageError:
            self.database.post(begin)  # on a full disk it is the first thing that is stored when there is room
        await self.answers.load()
        await self.runner.load()

    def stop(self) -> None:
        """Stop in order; called again, stop at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    # -- at work -----------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        settings = self.settings
        if settings.broker_url is not None:
            await self._connect_to(Bootstrap(broker_url=settings.broker_url, root=settings.root))
            return
        hub, poll = settings.control_plane_url, settings.poll_interval_seconds
        place = await find_broker(hub, self.account, self.offline, poll_interval_seconds=poll)
        while True:
            async with asyncio.TaskGroup() as group:
                session = group.create_task(self._connect_to(place), name="session")
                place = await wait_for_move(
                    place, hub, self.account, self.offline, is_online=self._has_broker, interval=self._ask_interval
                )
                session.cancel()

    async def _connect_to(self, place: Bootstrap) -> None:
        self.session = self._make_session(place.broker_url, Topics(place.root))
        await self.session.run()

    def _on_abilities(self) -> None:
        self.runner.on_abilities()
        if self.session:
            self.session.on_abilities()

    def _hub_is_there(self) -> bool:
        return self._uplink is not None and self._uplink.is_open

    def _has_broker(self) -> bool:
        """Tell whether the broker is where it was: by HTTP, too, a worker may learn that it has moved."""
        return self.online.is_set() and self._ways is not None and self._ways.transport == "mqtt"

    def _ask_interval(self) -> float:
        """Return how many seconds to wait before the hub is asked; by HTTP no less than until MQTT is tried again."""
        poll = self.settings.poll_interval_seconds
        if self._ways and self._ways.transport == "http":
            return max(poll, self._ways.limits.try_seconds)
        return poll

    def _make_presence(self) -> Presence:
        settings = self.settings
        profile = Profile(
            slots=settings.slots,
            heartbeat_interval_seconds=settings.heartbeat_interval_seconds,
            session_expiry_seconds=settings.session_expiry_seconds,
        )
        return Presence(profile, self.abilities, self.database, self.journal, self.runner)

    def _make_session(self, broker_url: str, topics: Topics) -> Session:
        settings, worker = self.settings, self.name.worker
        link = partial(Link, url=broker_url, account=self.account)
        by_http = HttpLink(
            url=settings.control_plane_url,
            site=settings.site,
            worker=worker,
            root=topics.root,
            poll_interval_seconds=settings.poll_interval_seconds,
            account=self.account,
        )
        by_mqtt = link(
            client_id=worker,
            session_expiry_seconds=settings.session_expiry_seconds,
            # What the broker has kept for an earlier journal may have run by that: this one could not tell.
            starts_clean=lambda: self.journal.is_new,
        )
        self._ways = Ways(by_mqtt, by_http, Limits(ask_seconds=settings.poll_interval_seconds))
        loop = asyncio.get_running_loop()
        self._uplink = Uplink(
            self.journal,
            topics.build(Events(settings.site, worker)),
            loop.time,
            on_prompt=self.database.allow_holding,
        )
        return Session(
            self.name,
            topics,
            main=self._ways,
            intake_link=link(client_id=f"{worker}-intake"),
            database=self.database,
            journal=self.journal,
            intake=self.intake,
            runner=self.runner,
            uplink=self._uplink,
            answers=self.answers,
            presence=self._presence,
            online=self.online,
        )

    async def _run_timers(self) -> None:
        await Timers(self._timers, self.intake, self.runner).run()

    async def _forget_old_ids(self) -> None:
        while True:
            before = now_ms() - int(self.settings.remember_days * MS_A_DAY)
            self.database.post(partial(inbox.forget, before=before), frees=True)
            await asyncio.sleep(FORGET_INTERVAL_SECONDS)

    async def _watch_storage(self) -> None:
        """Take everything down with an error once the database is damaged."""
        await self.database.broken.wait()
        raise StorageCorrupt(self.database.path, self.database.reason)

    # -- stopping, in phases -----------------------------------------------------------------------------------------

    async def _wind_down(self, runner: asyncio.Task[None], work: Sequence[asyncio.Task[None]]) -> None:
        connection, *others = work
        log.info("stopping", running=len(self.runner.running), queued=self.runner.queued)
        for task in others:
            task.cancel()
        if self.session:
            await self._within(self.session.close_intake(), CLOSE_INTAKE_SECONDS)
        self.runner.pause()
        if not await self._within(self.runner.idle(), self.settings.stop_seconds):
            self.runner.interrupt()
            await self._within(self.runner.idle(), INTERRUPT_SECONDS, hurried=INTERRUPT_SECONDS)
        if self._uplink and self._uplink.is_open:
            await self._within(self.runner.hand_back(), FLUSH_SECONDS)
            await self._within(self._uplink.flushed(), FLUSH_SECONDS)
        if self.session:
            self.session.leave()
        connection.cancel()
        runner.cancel()

    async def _within(self, phase: Awaitable[None], seconds: float, *, hurried: float = 0.0) -> bool:
        """Give a phase its time, or the `hurried` one once we are in a hurry; tell whether it was done."""
        task = asyncio.ensure_future(phase)
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait([task, hurry], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and hurried and hurry.done():
            await asyncio.wait([task], timeout=hurried)
        for one in (task, hurry):
            one.cancel()
        return task.done() and not task.cancelled()
