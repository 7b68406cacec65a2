"""Opens the database and brings its schema up to date."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DatabaseError

from broker.errors import SettingsError
from broker.problems import Problem, shown
from hub.kept_files import PRIVATE, give
from hub.store.files import database_file

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=10000",
    "foreign_keys=ON",
    "cache_size=-20000",
)


def open_engine(url: str) -> Engine:
    """Return an engine on `url`, with the newest schema.

    Raises:
        SettingsError: If the database cannot be opened or made there.

    """
    file = database_file(url)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_private(file)
        engine = create_engine(url, pool_size=4, max_overflow=4)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        _migrate(engine, url)
    except (OSError, DatabaseError) as error:
        cause = getattr(error, "orig", None) or error
        raise SettingsError(
            [Problem("HUB_DATABASE_URL", shown(url), f"a database that can be opened ({cause})")]
        ) from None
    return engine


def _make_private(file: Path) -> None:
    """Let a new database be its owner's alone, who is that of the folder; what SQLite puts beside it is like it.

    Root makes it for the hub's user: where that has put a link that leads nowhere yet, nothing is made at its end.
    """
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
        try:
            give(descriptor, file.parent.stat())
        finally:
            os.close(descriptor)


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401  the driver's own type
    connection.isolation_level = None  # the driver's own BEGIN comes too late for savepoints: we say it ourselves
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # One writer: it takes the lock at once. Readers stay deferred, and never wait in WAL mode.
    writing = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def revisions() -> tuple[str, ...]:
    """Return the schemas that this hub knows, oldest first: it brings any of them up to the last."""
    return tuple(sorted(one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()))


def schema_of(connection: Connection) -> str | None:
    """Return the schema of a database; None where it has none of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def _migrate(engine: Engine, url: str) -> None:
    config = _config()
    with engine.connect().execution_options(writes=True) as connection:
        schema = schema_of(connection)
        if schema is not None and schema not in (known := revisions()):
            expected = (
                f"a database of this version or older (schema {known[-1]}): this one has schema {schema}, of a newer"
            )
            raise SettingsError([Problem("HUB_DATABASE_URL", shown(url), f"{expected} hub; install that")])
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
