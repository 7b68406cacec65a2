"""The agent as a whole: what it is made of, how it starts, and how it stops."""

from __future__ import annotations

import asyncio
import random
import signal
from functools import partial
from typing import TYPE_CHECKING

from broker.backoff import delay_seconds
from broker.clock import now_ms
from broker.log import get_logger
from broker.service import STOP_SECONDS, Service
from edge_agent import plugins
from edge_agent.abilities import Abilities
from edge_agent.answers import Answers
from edge_agent.connecting import Connecting
from edge_agent.detection import detect
from edge_agent.errors import StorageClosed, StorageCorrupt, StorageError
from edge_agent.executors import Registry
from edge_agent.identity import Identity
from edge_agent.intake import Intake
from edge_agent.logs import Logs
from edge_agent.offline import OfflineDir
from edge_agent.presence import Name, Presence, Profile
from edge_agent.runner import Runner
from edge_agent.schedule import file as schedule_file
from edge_agent.schedule.book import Book
from edge_agent.schedule.clockwork import Clockwork
from edge_agent.schedule.firing import Firing
from edge_agent.session import Parts
from edge_agent.status import State, Status, keep_telling
from edge_agent.stopping import Stopping
from edge_agent.store import aside, boots, inbox
from edge_agent.store.database import Database
from edge_agent.store.journal import Journal
from edge_agent.store.sqlite import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.containers import Containers
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
        SettingsError: If the schedule file is wrong, or the credentials are.

    """

    def __init__(self, settings: WorkerSettings, agents: Sequence[Agent] = ()) -> None:
        self.identity = Identity(settings)
        settings = self.settings = self.identity.settings
        everyone = [*agents, *(one for one in plugins.load(settings.plugins) if one not in agents)]
        self.registry = Registry.of(
            (handler for agent in everyone for handler in agent.handlers.values()),
            allow_commands=settings.allow_commands,
            command_dirs=settings.command_dirs,
            command_env=settings.command_env,
            command_user=settings.command_user,
            command_processes=settings.command_processes,
            allow_urls=settings.allow_urls,
            http_ca=settings.http_ca,
        )
        self.containers = self._make_containers()
        self.abilities = Abilities(self.registry.kinds, {**detect(), **settings.capabilities})
        self.abilities.listen(self._on_abilities)
        if self.containers:
            self.containers.tell(self.abilities)
        self._timers = [timer for agent in everyone for timer in agent.timers]
        self._written = schedule_file.read(settings.schedule, self.registry.kinds) if settings.schedule else ()
        self.offline = OfflineDir(settings.offline_dir)
        self.logs = Logs(
            settings.offline_dir / "logs",
            max_bytes=int(settings.log_max_mb * BYTES_A_MB),
            max_total_bytes=int(settings.logs_max_mb * BYTES_A_MB),
        )
        self.name = Name(settings.site, settings.id or "")
        self._stopping = Stopping()
        self._service = Service.from_environment()
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
            limited=self.registry.limited,
            abilities=self.abilities,
            database=self.database,
            journal=self.journal,
            answers=self.answers,
            logs=self.logs,
            hub_is_there=self._hub_is_there,
            say_hello=self._say_hello,
        )
        if self.containers:
            self.containers.owned.clear()
            self.runner.on_committed = self.containers.owned.let_go
        self.intake = Intake(
            database=self.database,
            journal=self.journal,
            runner=self.runner,
            answers=self.answers,
            abilities=self.abilities,
            hub_is_there=self._hub_is_there,
        )
        book = Book(self._written, self._timers, self.database)
        firing = Firing(book, intake=self.intake, runner=self.runner, database=self.database, journal=self.journal)
        self.clockwork = Clockwork(book, firing, self.runner, self.abilities)
        self._presence = self._make_presence()
        self._presence.schedules = lambda: self.clockwork.revision
        parts = Parts(
            database=self.database,
            journal=self.journal,
            intake=self.intake,
            runner=self.runner,
            answers=self.answers,
            logs=self.logs,
            presence=self._presence,
            clockwork=self.clockwork,
        )
        self.connecting = Connecting(self.identity, self.offline, parts)

    @property
    def online(self) -> asyncio.Event:
        """Set while tasks come."""
        return self.connecting.online

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
            async with self._service.alive(lambda: self.database.stuck_seconds):
                while not await self._run_on_one_file():
                    await asyncio.to_thread(aside.begin_anew, self.settings.database, self.database.reason)
                    if damaged:  # a disk that fails again and again is not to be worn out
                        jitter = random.random()  # noqa: S311  it is no secret
                        await self._stopping.pause(delay_seconds(damaged, jitter))
                    damaged += 1
                    self._build()
        finally:
            await self.logs.close()
            self.offline.close()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        log.info("stopped", worker=self.name.worker)

    async def _run_on_one_file(self) -> bool:
        """Run until `stop`, and return True; or until the database turns out to be damaged."""
        try:
            self.database.open()
            await self._load()
            async with asyncio.TaskGroup() as group:
                runner = group.create_task(self.runner.run(), name="runner")
                engine = group.create_task(self._watch_engine(), name="engine")
                work = [
                    group.create_task(self._stay_connected(), name="session"),
                    group.create_task(self.clockwork.run(), name="schedule"),
                    group.create_task(self._forget_old_ids(), name="forget"),
                    group.create_task(self._watch_storage(), name="storage"),
                ]
                telling = group.create_task(self._keep_telling(), name="status")
                self._service.ready()
                await self._stopping.asked()
                self._service.stopping(self.settings.stop_seconds + STOP_SECONDS)
                await self._wind_down(runner, work)
                engine.cancel()
                telling.cancel()
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
        await self.clockwork.load(self.name.worker)

    def stop(self) -> None:
        """Stop in order; called again, stop at once."""
        self._stopping.ask()

    async def _keep_telling(self) -> None:
        service = self._service
        await keep_telling(self._status, self.settings.status_file, service.status if service.is_asked_for else None)

    def _status(self) -> Status:
        connecting, settings = self.connecting, self.connecting.settings
        trouble = connecting.troubles.last
        return Status(
            worker=self.name.worker,
            site=settings.site,
            state=State.STOPPING if self._stopping.is_asked else connecting.state,
            transport=connecting.transport,
            hub=settings.control_plane_url,
            running=len(self.runner.running),
            queued=self.runner.queued,
            journal_rows=self.journal.depth.rows,
            reason=trouble.reason if trouble else None,
            remedy=(trouble.remedy or None) if trouble else None,
        )

    # -- at work -----------------------------------------------------------------------------------------------------

    async def _watch_engine(self) -> None:
        if self.containers:
            await self.containers.engine.run()

    async def _stay_connected(self) -> None:
        if self.containers:
            await self.containers.engine.looked()  # so that the first hello is right about it
        await self.connecting.run(self.name)

    def _on_abilities(self) -> None:
        self.runner.on_abilities()
        self.clockwork.look()
        self._say_hello()

    def _say_hello(self) -> None:
        self.connecting.say_hello()

    def _hub_is_there(self) -> bool:
        return self.connecting.hub_is_there

    def _make_containers(self) -> Containers | None:
        """Offer containers, where the worker is declared to have an engine. Without it nothing of this is imported."""
        if self.settings.capabilities.get("docker") is not True:
            return None
        from edge_agent.containers import Containers  # noqa: PLC0415

        containers = Containers(
            self.settings,
            worker=lambda: self.name.worker,
            capabilities=lambda: self.abilities.capabilities,
        )
        self.registry.add(containers.executor)
        return containers

    def _make_presence(self) -> Presence:
        settings = self.settings
        profile = Profile(
            slots=settings.slots,
            concurrency=self.registry.concurrency,
            heartbeat_interval_seconds=settings.heartbeat_interval_seconds,
            session_expiry_seconds=settings.session_expiry_seconds,
        )
        return Presence(profile, self.abilities, self.database, self.journal, self.runner)

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
        within = self._stopping.within
        log.info("stopping", running=len(self.runner.running), queued=self.runner.queued)
        for task in others:
            task.cancel()
        await within(self.connecting.close_intake(), CLOSE_INTAKE_SECONDS)
        self.runner.pause()
        if not await within(self.runner.idle(), self.settings.stop_seconds):
            self.runner.interrupt()
            await within(self.runner.idle(), INTERRUPT_SECONDS, hurried=INTERRUPT_SECONDS)
        if self.connecting.hub_is_there:
            await within(self.runner.hand_back(), FLUSH_SECONDS)
            await within(self.connecting.flushed(), FLUSH_SECONDS)
        self.connecting.leave()
        connection.cancel()
        runner.cancel()
