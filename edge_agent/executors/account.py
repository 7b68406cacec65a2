"""The user whom commands run as: `WORKER_COMMAND_USER`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from broker.errors import SettingsError
from broker.problems import Problem, shown

try:
    import pwd
except ImportError:  # Windows has no such users
    pwd = None  # type: ignore[assignment]

SETTING = "WORKER_COMMAND_USER"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, with his groups and what a login would tell his programs."""

    user: int
    group: int
    groups: tuple[int, ...]
    home: str
    environment: dict[str, str]

    @classmethod
    def find(cls, name: str) -> Account:
        """Return the user `name`. Raises `SettingsError` if there is none, or if the agent may not become him."""
        if pwd is None:
            raise _wrong(name, "unset on this system, which cannot run a program as another user")
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise _wrong(name, "the name of a user of this machine") from None
        if os.geteuid() not in (0, entry.pw_uid):
            raise _wrong(name, "unset, or an agent that runs as root: only root may run a program as another user")
        home = entry.pw_dir if Path(entry.pw_dir).is_dir() else "/"
        told = {"HOME": home, "USER": name, "LOGNAME": name, "SHELL": entry.pw_shell or "/bin/sh"}
        return cls(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)), home, told)

    @property
    def is_another(self) -> bool:
        """Whether it is not the agent's own user."""
        return os.geteuid() != self.user


def _wrong(name: str, expected: str) -> SettingsError:
    return SettingsError([Problem(SETTING, shown(name), expected)])
