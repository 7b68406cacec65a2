"""What can go wrong at an edge agent.

HoldfastError (broker.errors)
├── StorageError          the database in the offline directory cannot be opened or written
│   └── StorageClosed     work was submitted after the database was closed
│       └── StorageCorrupt    the file is damaged: it is set aside, and the agent begins a new one
├── EnrolmentRefused      the hub gives no account for a token, or is not the hub that the token names
├── PluginError           a module of handlers cannot be used: ends the program with exit code 2
├── TaskFailed            an executor's way to end an attempt as failed, with a result of its own
├── TaskInterrupted       an executor's way to say that something else put an end to it: the engine stopped, for example
├── CannotRunHere         an executor's way to give an attempt back of which nothing has begun
│   └── NotAllowedHere        the same, where it would be of no use to try again
├── EngineGone            the Docker Engine does not answer
└── EngineRefused         the Docker Engine answers, and does not do what it was asked for
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import HoldfastError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue


class StorageError(HoldfastError):
    """The database cannot be opened or written; `retryable`, since a disk can be emptied or mounted again."""

    retryable = True

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class StorageClosed(StorageError):
    """The database was closed."""

    retryable = False

    def __init__(self, path: Path) -> None:
        super().__init__(path, "the database is closed")


class StorageCorrupt(StorageClosed):
    """The file is damaged. Nothing can be stored until another has taken its place."""

    def __init__(self, path: Path, reason: str) -> None:
        StorageError.__init__(self, path, reason)


class EnrolmentRefused(HoldfastError):
    """A token that was not traded: asked again the same, the same would be answered."""

    def __init__(self, hub: str, reason: str) -> None:
        super().__init__(f"{hub} does not enrol this worker: {reason}")
        self.hub = hub
        self.reason = reason


class PluginError(HoldfastError):
    """A module of handlers cannot be imported, or holds no agent, or a name that is taken."""


class TaskFailed(HoldfastError):
    """An attempt that failed though its executor did all it could: a command that exited with 1, for example."""

    def __init__(self, error: str, result: JsonValue = None) -> None:
        super().__init__(error)
        self.error = error
        self.result = result


class TaskInterrupted(HoldfastError):
    """An attempt that something else than its task put an end to."""

    def __init__(self, error: str, result: JsonValue = None) -> None:
        super().__init__(error)
        self.error = error
        self.result = result


class CannotRunHere(HoldfastError):
    """An attempt that cannot be begun here now: another worker may run it, or this one later.

    `retryable` is whether this one may be able to soon, without being told that anything has changed.
    """

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotAllowedHere(CannotRunHere):
    """An attempt that this worker may not begin, as it turns out late: tried again, it would be refused again."""

    retryable = False


class EngineGone(HoldfastError):
    """The Docker Engine does not answer, or has gone meanwhile. Whether it has done what it was asked for is open."""

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"the Docker Engine does not answer: {reason}")
        self.reason = reason


class EngineRefused(HoldfastError):
    """What the Docker Engine does not do, in its own words; `status` is that of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
