"""Where the hub's database lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from broker.errors import SettingsError
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from hub.settings import HubSettings

EXPECTED_URL = "sqlite:///path/of/hub.db"


def database_file(url: str) -> Path:
    """Return the file of the database at `url`. Raises `SettingsError` where it is none."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if (
        parsed is None
        or parsed.drivername not in ("sqlite", "sqlite+pysqlite")
        or parsed.database in (None, "", ":memory:")
    ):
        raise SettingsError([Problem("HUB_DATABASE_URL", shown(url), EXPECTED_URL)])
    return Path(parsed.database or "")


def key_file(settings: HubSettings) -> Path:
    """Return where the hub's key is: by default beside the database. Raises `SettingsError`."""
    return settings.key_file or database_file(settings.database_url).with_suffix(".key")


def beside(database: Path) -> tuple[Path, ...]:
    """Return the database and what SQLite keeps beside it, where it is there: the log of what was written last."""
    names = (database.name, f"{database.name}-wal", f"{database.name}-shm")
    return tuple(path for path in map(database.with_name, names) if path.exists())
