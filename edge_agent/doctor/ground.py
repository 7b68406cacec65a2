"""What the areas of the doctor share: the settings, who the worker is, whether an agent runs, what the hub said."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from broker.errors import SettingsError
from edge_agent import status_file
from edge_agent.identity import Identity
from edge_agent.offline import OfflineDir

if TYPE_CHECKING:
    from broker.account import Account
    from broker.messages import Bootstrap
    from edge_agent.settings import WorkerSettings
    from edge_agent.status_file import Read

LOCKS = Path("/proc/locks")


@dataclass(slots=True)
class Ground:
    """What is looked at.

    Attributes:
        config: The file of settings, if one was named.
        given: The settings as they were given.
        identity: Who the worker is; None if the credentials cannot be used.
        wrong: Why not.
        bootstrap: Where the hub says the broker is; None until it has.
        clock_offset_seconds: How far the hub's clock is before this one.

    """

    config: Path | None
    given: WorkerSettings
    identity: Identity | None = None
    wrong: SettingsError | None = None
    bootstrap: Bootstrap | None = None
    clock_offset_seconds: float | None = None
    offline: OfflineDir = field(init=False)

    def __post_init__(self) -> None:
        """Read the credentials."""
        self.offline = OfflineDir(self.given.offline_dir)
        try:
            self.identity = Identity(self.given)
        except SettingsError as error:
            self.wrong = error

    @property
    def settings(self) -> WorkerSettings:
        """The settings, with what the credentials say."""
        return self.identity.settings if self.identity else self.given

    @property
    def account(self) -> Account:
        """Who the worker is to hub and broker. Without an identity nobody asks."""
        if self.identity is None:
            msg = "the credentials could not be read"
            raise ValueError(msg)
        return self.identity.account()

    @property
    def worker(self) -> str | None:
        """The worker's name, if it has one by now."""
        if self.settings.id:
            return self.settings.id
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.settings.offline_dir / "worker-id").read_text(encoding="utf-8").strip() or None
        return None

    @property
    def running(self) -> int | None:
        """The process id of the agent that uses the offline directory, as the kernel's locks tell."""
        try:
            about = (self.settings.offline_dir / "lock").stat()
            inode = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
            locks = [line.split() for line in LOCKS.read_text(encoding="ascii").splitlines()]
        except OSError:
            return None
        return next((int(lock[4]) for lock in locks if lock[1] == "FLOCK" and lock[5] == inode), None)

    @property
    def told(self) -> Read | None:
        """What a running agent has told of itself lately."""
        file = self.settings.status_file
        if file is None:
            return None
        with contextlib.suppress(ValueError):
            read = status_file.read(file, time.time())
            return read if read and read.is_fresh else None
        return None


def user_name(number: int) -> str:
    """Return a user's name, or the number of one that has none here."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def me() -> str:
    """Return whom this runs as."""
    return user_name(os.geteuid())
