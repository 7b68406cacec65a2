"""Opens the database and brings its schema up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from broker.errors import SettingsError
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from sqlalchemy import Connection

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
    try:
        parsed = make_url(url)
        if (
            parsed.drivername not in ("sqlite", "sqlite+pysqlite")
            or not parsed.database
            or parsed.database == ":memory:"
        ):
            raise SettingsError([Problem("HUB_DATABASE_URL", shown(url), "sqlite:///path/of/hub.db")])
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_size=4, max_overflow=4)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        _migrate(engine)
    except ArgumentError:
        raise SettingsError([Problem("HUB_DATABASE_URL", shown(url), "sqlite:///path/of/hub.db")]) from None
    except (OSError, DatabaseError) as error:
        cause = getattr(error, "orig", None) or error
        raise SettingsError(
            [Problem("HUB_DATABASE_URL", shown(url), f"a database that can be opened ({cause})")]
        ) from None
    return engine


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401  the driver's own type
    connection.isolation_level = None  # the driver's own BEGIN comes too late for savepoints: we say it ourselves
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # One writer: it takes the lock at once. Readers stay deferred, and never wait in WAL mode.
    writing = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.connect().execution_options(writes=True) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
