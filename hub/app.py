"""The hub, wired together: opened and closed in phases, and run as one group of tasks."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from broker import __version__
from broker.access import account_of
from broker.errors import SettingsError
from broker.link import Link
from broker.log import get_logger
from broker.problems import Problem, shown
from broker.settings import log_settings
from broker.topics import Topics
from hub.actions import Actions
from hub.api.app import make_app
from hub.api.context import Context
from hub.attendance import Attendance
from hub.dispatch import Dispatcher
from hub.feed import Feed, Waiters
from hub.fleet import Fleet
from hub.gateway import Gateway
from hub.greeting import Greeting
from hub.inbound import Inbound
from hub.logs import Logs
from hub.mailboxes import Mailboxes
from hub.reception import Reception
from hub.replies import Replies
from hub.schedules import Schedules
from hub.store.engine import open_engine
from hub.store.ledger import Ledger
from hub.store.schedules import load_schedules
from hub.store.tasks import unended
from hub.store.workers import load_workers
from hub.submission import Submissions
from hub.wire import SESSION_EXPIRY_SECONDS, Handlers, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hub.settings import HubSettings

STOP_SECONDS = 2
"""How long requests that are under way may take when the hub stops."""

KEEP_ALIVE_SECONDS = 30
"""How long an idle connection is kept: a worker by HTTP asks each 5 s, and need not connect for that."""

log = get_logger(__name__)


class Hub:
    """One hub. `run` serves until `stop` is called."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._engine = open_engine(settings.database_url)
        self._ledger = Ledger(self._engine)
        topics = Topics(settings.root)
        mailboxes = Mailboxes()
        self._wire = Wire(_link(settings), topics, mailboxes)
        self._feed = Feed()
        self._waiters = Waiters()
        replies = Replies(self._wire)
        greeting = Greeting(self._ledger, self._feed, self._wire)
        self._fleet = Fleet()
        self._attendance = Attendance(self._fleet, self._ledger, self._wire, greeting)
        self._dispatcher = Dispatcher(settings, self._fleet, self._ledger, self._feed, self._wire)
        self._reception = Reception(
            fleet=self._fleet,
            attendance=self._attendance,
            greeting=greeting,
            wire=self._wire,
            listener=self._dispatcher,
        )
        self._submissions = Submissions(self._ledger, self._feed, self._fleet, self._wire, replies)
        self._inbound = Inbound(
            ledger=self._ledger,
            feed=self._feed,
            fleet=self._fleet,
            reception=self._reception,
            dispatcher=self._dispatcher,
            wire=self._wire,
            replies=replies,
        )
        self._logs = Logs(self._wire)
        self._schedules = Schedules(self._ledger, self._fleet, self._wire)
        self._reception.on_greeted = self._schedules.on_hello
        self._gateway = Gateway(self._wire, mailboxes, self._handlers())
        self._attendance.listen(self._dispatcher.on_fleet)
        for listener in (self._dispatcher.on_changes, self._waiters.on_changes, replies.on_changes):
            self._feed.listen(listener)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask the hub to end in order."""
        self._stopping.set()

    async def run(self, listener: socket.socket) -> None:
        """Serve HTTP on `listener` and the broker's messages, until `stop`."""
        self._load()
        self._ledger.open()
        server = _Server(
            uvicorn.Config(
                make_app(self._context()),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=STOP_SECONDS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(server.serve(sockets=[listener]), name="http")
                background = [
                    group.create_task(self._wire.run(self._handlers()), name="wire"),
                    group.create_task(self._attendance.watch_silence(), name="silence"),
                    group.create_task(self._gateway.watch_silence(), name="http-links"),
                    group.create_task(self._dispatcher.run(), name="dispatch"),
                    group.create_task(self._dispatcher.watch_deadlines(), name="deadlines"),
                ]
                host, port = listener.getsockname()[:2]
                log.info("hub_ready", url=f"http://{host}:{port}", version=__version__)
                await self._stopping.wait()
                log.info("hub_stopping")
                server.should_exit = True
                await serving
                for task in background:
                    task.cancel()
        finally:
            self._ledger.close()
            self._engine.dispose()
            log.info("hub_stopped")

    def _load(self) -> None:
        with self._engine.connect() as connection:
            self._attendance.load(load_workers(connection))
            self._dispatcher.load(unended(connection))
            self._schedules.load(load_schedules(connection))

    def _context(self) -> Context:
        return Context(
            settings=self._settings,
            engine=self._engine,
            fleet=self._fleet,
            dispatcher=self._dispatcher,
            submissions=self._submissions,
            actions=Actions(self._ledger, self._feed, self._dispatcher),
            waiters=self._waiters,
            wire=self._wire,
            gateway=self._gateway,
            logs=self._logs,
            schedules=self._schedules,
        )

    def _on_link_up(self) -> None:
        self._attendance.on_link_up()
        self._dispatcher.on_link_up()

    def _handlers(self) -> Handlers:
        return Handlers(
            tasks=self._submissions.on_tasks,
            events=self._inbound.on_events,
            status=self._reception.on_status,
            heartbeat=self._reception.on_heartbeat,
            reply=self._logs.on_reply,
            stray=self._submissions.on_stray,
            link_up=self._on_link_up,
            link_lost=self._attendance.on_link_lost,
        )


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling: the hub ends in its own order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: HubSettings) -> None:
    """Run a hub until SIGTERM or SIGINT.

    Raises:
        SettingsError: If a setting turns out to be wrong where it is used: the database, the port.

    """
    log_settings(settings, log)
    listener = listen(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: HubSettings, listener: socket.socket) -> None:
    hub = Hub(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hub.stop)
    await hub.run(listener)


def listen(settings: HubSettings) -> socket.socket:
    """Return a socket that listens where the settings say. Raises `SettingsError`."""
    host = settings.http_host
    if not settings.allow_anonymous and not _is_loopback(host):
        expected = "a loopback address while there are no tokens, or HUB_ALLOW_ANONYMOUS=true"
        raise SettingsError([Problem("HUB_HTTP_HOST", shown(host), expected)])
    try:
        family = socket.getaddrinfo(host, settings.http_port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, settings.http_port), family=family, backlog=1024)
    except OSError as error:
        where = Problem("HUB_HTTP_PORT", str(settings.http_port), f"a port that is free on {host} ({error.strerror})")
        raise SettingsError([where]) from None
    # Inherited by each connection. asyncio's own loop sets it only where a socket names its protocol, and this one does
    # not: the body of an answer would wait 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _link(settings: HubSettings) -> Link:
    return Link(
        url=settings.broker_url,
        client_id=settings.client_id,
        account=account_of(settings, "HUB_"),
        session_expiry_seconds=SESSION_EXPIRY_SECONDS,
    )
