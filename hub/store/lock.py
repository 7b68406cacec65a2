"""Who has the database: one hub at a time, or a restore, and never both.

The lock is flock(2) on a file beside the database, so the kernel gives it back however its holder ends. Commands that
only write rows need none: SQLite's own locks are enough for them.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from broker.clock import wall_ms
from hub.errors import DatabaseInUse, NoLock
from hub.kept_files import PRIVATE, give

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_SECONDS = 1.0
"""How long to try: a hub that is just ending gives the lock back, and a doctor holds it for an instant."""

_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock, as it said itself: a process of `host`, which for a container is the container."""

    pid: int
    host: str
    what: str
    since_ms: int

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since_ms / 1000))
        return f"{self.what}, process {self.pid} on {self.host}, since {since}"


def lock_file(database: Path) -> Path:
    """Return the file on which the lock of a database is."""
    return database.with_name(f"{database.name}.lock")


@contextmanager
def hold(database: Path, what: str) -> Iterator[None]:
    """Hold the lock of a database for the block; `what` holds it is told to who comes later.

    Raises:
        DatabaseInUse: If somebody else holds it.
        NoLock: If there can be no lock there.

    """
    descriptor = _open(lock_file(database))
    try:
        _take(descriptor, database)
        holder = Holder(os.getpid(), socket.gethostname(), what, wall_ms())
        with suppress(OSError):  # a full disk: the lock holds, though it does not say whose it is
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # the file stays: who removed it would let two hold two locks of one name


def holder_of(database: Path) -> Holder | None:
    """Return who holds the lock of a database; None where nobody does. Raises `OSError` if that cannot be seen."""
    try:
        descriptor = os.open(lock_file(database), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    finally:
        os.close(descriptor)
    return None


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No link is followed: root takes this lock in a folder of the hub's user, writes to the file and gives it away.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        give(descriptor, path.parent.stat())
    except OSError as error:
        raise NoLock(f"{path}: {error.strerror}") from None
    return descriptor


def _take(descriptor: int, database: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise DatabaseInUse(str(database), str(_read(descriptor))) from None
            time.sleep(_PAUSE_SECONDS)
        except OSError as error:  # a file system of another machine that has no locks
            raise NoLock(f"{lock_file(database)} cannot be locked: {error.strerror}") from None
        else:
            return


def _read(descriptor: int) -> Holder:
    with suppress(OSError, ValueError, TypeError):
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    return Holder(0, "some host", "somebody who has not said who", 0)
