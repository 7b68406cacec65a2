"""What works on the hub's database itself, whether or not a hub runs: whoever may write that file may do all of it."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from broker.errors import SettingsError
from broker.problems import Problem, shown
from broker.settings import fail, load_or_exit
from hub.rules.audit import by_local_user
from hub.rules.callers import Caller
from hub.rules.roles import Role
from hub.settings import HubSettings
from hub.store.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


class Direct(NamedTuple):
    """The hub's database in one transaction; `who` is how the audit trail names who runs the command."""

    settings: HubSettings
    connection: Connection
    who: str

    @property
    def caller(self) -> Caller:
        """Who runs the command: to whom nothing is forbidden that the file allows."""
        return Caller(self.who, Role.ADMIN)


@contextmanager
def directly(config: Path | None, *, make: bool = False) -> Iterator[Direct]:
    """Open the database of a hub with these settings; commit where the block ends in order.

    A hub that runs sees the change by the audit trail, so what changes something writes its line there. What goes wrong
    ends the program with exit code 2.

    Args:
        config: A file of settings, as `edge-hub serve` takes it.
        make: Whether to make the database where there is none.

    """
    settings = load_or_exit(HubSettings, config)
    try:
        if not make:
            _must_exist(settings.database_url)
        engine = open_engine(settings.database_url)
    except SettingsError as error:
        fail(*(str(problem) for problem in error.problems))
    try:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield Direct(settings, connection, local_user())
    except DatabaseError as error:
        fail(f"the database at {settings.database_url} does not take that: {error.orig or error}")
    finally:
        engine.dispose()


def local_user() -> str:
    """Return who runs this command, as the audit trail names them: whatever `LOGNAME` says."""
    try:
        return by_local_user(pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:  # a container's user may have no name
        return by_local_user("unnamed")


def _must_exist(url: str) -> None:
    """Refuse to make a database by looking for something in it. Raises `SettingsError`."""
    path = make_url(url).database or ""
    if not Path(path).is_file():
        expected = "the hub's database, and there is none yet: is this the hub's directory, and its --config?"
        raise SettingsError([Problem("HUB_DATABASE_URL", shown(url), expected)])
