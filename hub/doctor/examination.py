"""What `edge-hub doctor` looks at, in the order in which one thing stands on the other."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import DatabaseError

from broker import __version__
from broker.clock import wall_ms
from broker.doctor import Area, Finding, bad, diagnose, ok, warn
from broker.errors import SettingsError
from broker.settings import load, unknown_variables
from hub.doctor.access import check_tokens
from hub.doctor.broker import check_broker
from hub.doctor.certificates import check_certificates
from hub.doctor.clock import check_clock
from hub.doctor.database import check_database
from hub.doctor.listener import check_listener
from hub.doctor.tasks import check_waiting
from hub.doctor.workers import check_clocks, check_presence, check_sites, check_versions
from hub.listening import is_loopback
from hub.rules.task import TaskState
from hub.rules.waiting import shape_of
from hub.settings import HubSettings
from hub.store.accounts import load_accounts
from hub.store.engine import revisions, schema_of
from hub.store.files import database_file, key_file
from hub.store.lock import holder_of
from hub.store.schema import audit, tasks
from hub.store.tasks import unended
from hub.store.tokens import load_tokens
from hub.store.workers import load_workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from hub.rules.access import Account
    from hub.rules.placement import Shape
    from hub.rules.tokens import ApiToken
    from hub.store.workers import WorkerRow


@dataclass(frozen=True, slots=True)
class Kept:
    """What the database holds, as far as a doctor wants to know it."""

    workers: Sequence[WorkerRow]
    waiting: Counter[Shape]
    tokens: Sequence[ApiToken]
    accounts: Sequence[Account]
    newest: int | None


async def examine_hub(config: Path | None, *, as_json: bool) -> int:
    """Look at everything, print what is found, and return the exit code."""
    try:
        settings = load(HubSettings, config)
    except SettingsError as error:
        wrong = [bad(str(problem), _AS_NAMED) for problem in error.problems]
        return await diagnose([Area("settings", _looking(wrong))], as_json=as_json)
    return await diagnose(Examination(settings, config).areas(), as_json=as_json)


class Examination:
    """One look at a hub with `settings`, from `config`. What the database holds is read once, for all areas."""

    def __init__(self, settings: HubSettings, config: Path | None = None) -> None:
        self._settings = settings
        self._config = config
        self._kept: Kept | None = None

    def areas(self) -> list[Area]:
        """Return what is looked at; the database before all that it tells of."""
        return [
            Area("settings", self._look_at_settings),
            Area("database", self._look_at_database),
            Area("clock", self._look_at_clock),
            Area("certificates", self._look_at_certificates),
            Area("broker", self._look_at_broker),
            Area("api", self._look_at_api),
            Area("access", self._look_at_access),
            Area("workers", self._look_at_workers),
            Area("sites", self._look_at_sites),
            Area("tasks", self._look_at_tasks),
        ]

    async def _look_at_settings(self) -> list[Finding]:
        source = f"{self._config} and the environment" if self._config else "the environment, and no --config file"
        unknown = [warn(text, "correct its name, or remove it") for text in unknown_variables(HubSettings)]
        return [ok(f"read from {source}"), *unknown]

    async def _look_at_database(self) -> list[Finding]:
        findings = list(check_database(self._settings))
        self._kept = _read(database_file(self._settings.database_url))
        return findings

    async def _look_at_clock(self) -> list[Finding]:
        return await check_clock(wall_ms(), self._kept.newest if self._kept else None)

    async def _look_at_certificates(self) -> list[Finding]:
        return list(check_certificates(self._settings, dt.datetime.now(dt.UTC)))

    async def _look_at_broker(self) -> list[Finding]:
        accounts = self._kept.accounts if self._kept else ()
        return await check_broker(self._settings, accounts, _key(key_file(self._settings)))

    async def _look_at_api(self) -> list[Finding]:
        try:
            is_served = holder_of(database_file(self._settings.database_url)) is not None
        except OSError:
            is_served = True  # by all that can be seen
        return await check_listener(self._settings, is_served=is_served)

    async def _look_at_access(self) -> list[Finding]:
        settings = self._settings
        return check_tokens(
            self._kept.tokens if self._kept else (),
            wall_ms(),
            loopback=is_loopback(settings.http_host),
            anonymous=settings.allow_anonymous,
            required=settings.require_tokens,
        )

    async def _look_at_workers(self) -> list[Finding]:
        if self._kept is None:
            return [_NOT_READ]
        workers, now = self._kept.workers, wall_ms()
        return [*check_presence(workers, now), *check_clocks(workers, now), *check_versions(workers, __version__)]

    async def _look_at_sites(self) -> list[Finding]:
        if self._kept is None:
            return [_NOT_READ]
        asked_for = [shape.site for shape in self._kept.waiting if shape.site]
        return check_sites(self._kept.workers, asked_for)

    async def _look_at_tasks(self) -> list[Finding]:
        return check_waiting(self._kept.waiting, self._kept.workers) if self._kept else [_NOT_READ]


def _read(file: Path) -> Kept | None:
    """Read what a doctor wants to know; None where there is no database of this hub's schema."""
    try:
        if not file.is_file():
            return None
    except PermissionError:  # told already
        return None
    engine = create_engine(f"sqlite:///file:{file.absolute()}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            if schema_of(connection) != revisions()[-1]:
                return None
            return _kept(connection)
    except DatabaseError:  # told already
        return None
    finally:
        engine.dispose()


def _key(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:  # told of the database, where it should be there
        return None


def _kept(connection: Connection) -> Kept:
    pending = [task for task in unended(connection) if task.state is TaskState.PENDING]
    newest = [connection.execute(select(func.max(column))).scalar() for column in (tasks.c.created_ms, audit.c.at_ms)]
    return Kept(
        workers=load_workers(connection),
        waiting=Counter(map(shape_of, pending)),
        tokens=load_tokens(connection),
        accounts=load_accounts(connection),
        newest=max((one for one in newest if one is not None), default=None),
    )


def _looking(findings: list[Finding]) -> Callable[[], Awaitable[list[Finding]]]:
    async def look() -> list[Finding]:
        return findings

    return look


_AS_NAMED = "set it as it says; config/hub.toml explains each setting"
_NOT_READ = ok("not looked at: there is no database of this version to read")
