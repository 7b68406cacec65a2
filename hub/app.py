"""The hub, wired together: opened and closed in phases, and run as one group of tasks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import uvloop

from broker import __version__
from broker.access import account_of
from broker.errors import SettingsError
from broker.link import Link
from broker.log import get_logger
from broker.problems import Problem, shown
from broker.service import Service
from broker.settings import log_settings
from broker.topics import Topics
from hub.access import Access
from hub.account_keeping import AccountKeeper
from hub.accounts import Accounts
from hub.actions import Actions
from hub.api.app import make_app
from hub.api.context import Context
from hub.attendance import Attendance
from hub.audit import Audit
from hub.dismissal import Dismissal
from hub.dispatch import Dispatcher
from hub.dynsec import DynamicSecurity
from hub.enrolling import Enrolling, authority_of, reserved_names
from hub.errors import DatabaseInUse, NoLock
from hub.feed import Feed, Waiters
from hub.fleet import Fleet
from hub.gateway import Gateway
from hub.greeting import Greeting
from hub.impostors import Impostors
from hub.inbound import Inbound
from hub.listening import listen
from hub.logs import Logs
from hub.mailboxes import Mailboxes
from hub.reception import Reception
from hub.replies import Replies
from hub.schedules import Schedules
from hub.server import http_server
from hub.store.engine import open_engine
from hub.store.files import database_file, key_file
from hub.store.ledger import Ledger
from hub.store.lock import hold
from hub.store.schedules import load_schedules
from hub.store.tasks import unended
from hub.store.workers import load_workers
from hub.submission import Submissions
from hub.sweeping import Sweeping
from hub.tls import ServerCertificate
from hub.tokens import Tokens
from hub.watch import Watch
from hub.wire import SESSION_EXPIRY_SECONDS, Handlers, Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from hub.settings import HubSettings

log = get_logger(__name__)


class Hub:
    """One hub. `run` serves until `stop` is called."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._certificate = ServerCertificate.of(settings)
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
        self._watch = Watch(self._engine)
        self._tokens = Tokens(self._engine, self._ledger, self._watch)
        self._audit = Audit(self._ledger)
        self._accounts = Accounts(self._engine, self._watch, key_file(settings))
        security = DynamicSecurity(self._wire) if settings.manage_accounts else None
        sweeping = Sweeping(security, _link(settings)) if security else None
        self._keeper = AccountKeeper(self._accounts, topics, security, sweeping)
        self._enrolling = Enrolling(
            ledger=self._ledger,
            accounts=self._accounts,
            keeper=self._keeper,
            watch=self._watch,
            audit=self._audit,
            reserved=reserved_names(settings),
            authority=authority_of(settings),
        )
        self._access = Access(settings, self._tokens, self._accounts, self._audit)
        self._impostors = Impostors(self._accounts, self._audit, is_managed=settings.manage_accounts)
        self._logs = Logs(self._wire)
        self._schedules = Schedules(self._ledger, self._fleet, self._wire)
        self._reception.on_greeted = self._schedules.on_hello
        self._gateway = Gateway(self._wire, mailboxes, self._handlers())
        self._keeper.on_revoked = Dismissal(self._fleet, self._reception, self._gateway, self._wire).dismiss
        self._attendance.listen(self._dispatcher.on_fleet)
        for listener in (self._dispatcher.on_changes, self._waiters.on_changes, replies.on_changes):
            self._feed.listen(listener)
        self._stopping = asyncio.Event()
        self._service = Service.from_environment()

    def stop(self) -> None:
        """Ask the hub to end in order."""
        self._stopping.set()

    def renew_certificate(self) -> None:
        """Show the certificate that is in its file now, where the API has one."""
        if self._certificate:
            self._certificate.renew()

    async def run(self, listener: socket.socket) -> None:
        """Serve HTTP on `listener` and the broker's messages, until `stop`."""
        self._load()
        self._ledger.open()
        server = http_server(make_app(self._context()), self._settings, self._certificate)
        try:
            async with self._service.alive(lambda: self._ledger.stuck_seconds), asyncio.TaskGroup() as group:
                serving = group.create_task(server.serve(sockets=[listener]), name="http")
                background = [
                    group.create_task(self._wire.run(self._handlers()), name="wire"),
                    group.create_task(self._attendance.watch_silence(), name="silence"),
                    group.create_task(self._gateway.watch_silence(), name="http-links"),
                    group.create_task(self._dispatcher.run(), name="dispatch"),
                    group.create_task(self._dispatcher.watch_deadlines(), name="deadlines"),
                    group.create_task(self._watch.run(), name="watch"),
                    group.create_task(self._tokens.run(), name="tokens"),
                    group.create_task(self._keeper.run(), name="accounts"),
                    group.create_task(self._audit.run(), name="audit"),
                ]
                await server.is_up.wait()
                host, port = listener.getsockname()[:2]
                url = f"{'https' if self._certificate else 'http'}://{host}:{port}"
                log.info("hub_ready", url=url, version=__version__)
                self._service.status(f"serving {url}")
                self._service.ready()
                await self._stopping.wait()
                log.info("hub_stopping")
                self._service.stopping()
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
            self._watch.load(connection)
            self._tokens.load(connection)
            self._accounts.load(connection)
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
            access=self._access,
            tokens=self._tokens,
            accounts=self._accounts,
            keeper=self._keeper,
            enrolling=self._enrolling,
        )

    def _on_link_up(self) -> None:
        self._attendance.on_link_up()
        self._dispatcher.on_link_up()
        self._keeper.on_link_up()

    def _on_link_lost(self) -> None:
        self._attendance.on_link_lost()
        self._keeper.on_link_lost()

    def _handlers(self) -> Handlers:
        return Handlers(
            tasks=self._submissions.on_tasks,
            events=self._inbound.on_events,
            status=self._reception.on_status,
            heartbeat=self._reception.on_heartbeat,
            bridge=self._attendance.on_bridge,
            reply=self._logs.on_reply,
            stray=self._submissions.on_stray,
            is_impostor=self._impostors.is_one,
            link_up=self._on_link_up,
            link_lost=self._on_link_lost,
        )


def serve(settings: HubSettings) -> None:
    """Run a hub until SIGTERM or SIGINT.

    Raises:
        SettingsError: If a setting turns out to be wrong where it is used: the database, the port.

    """
    log_settings(settings, log)
    with _own_database(settings.database_url):
        listener = listen(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, listener))


@contextlib.contextmanager
def _own_database(url: str) -> Iterator[None]:
    """Serve a database that nobody else serves or restores."""
    try:
        with hold(database_file(url), "edge-hub serve"):
            yield
    except DatabaseInUse as error:
        expected = f"a database that no other hub serves, and it is in use by {error.holder}"
        raise SettingsError([Problem("HUB_DATABASE_URL", shown(url), expected)]) from None
    except NoLock as error:
        expected = f"a place that can be written ({error})"
        raise SettingsError([Problem("HUB_DATABASE_URL", shown(url), expected)]) from None


async def _serve(settings: HubSettings, listener: socket.socket) -> None:
    hub = Hub(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hub.stop)
    if settings.http_tls_certificate:
        loop.add_signal_handler(signal.SIGHUP, hub.renew_certificate)
    await hub.run(listener)


def _link(settings: HubSettings) -> Link:
    return Link(
        url=settings.broker_url,
        client_id=settings.client_id,
        account=account_of(settings, "HUB_"),
        session_expiry_seconds=SESSION_EXPIRY_SECONDS,
    )
