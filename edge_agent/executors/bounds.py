"""What bounds every command of this worker, whatever a task asks for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from broker.errors import SettingsError
from broker.problems import Problem
from edge_agent.executors.account import Account

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SHELL = "/bin/sh"

LIMIT_PROCESSES = 'ulimit -u "$0" 2>/dev/null || ulimit -p "$0" || exit 126; exec "$@"'
"""Lets a shell set the limit and become the command: bash and zsh call it -u, dash and busybox -p.

Set from outside (`prlimit`), it would come after the first forks; set between fork and exec, it would need Python code
in a process of which only one thread was copied.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What bounds every command.

    Attributes:
        dirs: Where a task may let a command run: in these, and in what is below them.
        passed: Which variables commands get of the agent's environment, beside the usual ones.
        account: Whom they run as; None is whom the agent runs as.
        processes: How many processes that user may have while a command starts another. It does not bind root.

    """

    dirs: tuple[Path, ...] = ()
    passed: frozenset[str] = frozenset()
    account: Account | None = None
    processes: int | None = None

    @classmethod
    def of(cls, *, dirs: Sequence[Path], passed: Collection[str], user: str | None, processes: int | None) -> Bounds:
        """Return what the settings say. Raises `SettingsError` for what cannot be done here."""
        account = Account.find(user) if user else None
        bound = account.user if account else os.geteuid() if hasattr(os, "geteuid") else None
        if processes is not None and not bound:
            expected = "unset, or WORKER_COMMAND_USER to name a user who is not root, whom no such limit binds"
            raise SettingsError([Problem("WORKER_COMMAND_PROCESSES", str(processes), expected)])
        return cls(dirs=tuple(dirs), passed=frozenset(passed), account=account, processes=processes)

    def allows_dir(self, cwd: str) -> bool:
        """Tell whether a command may run in `cwd`, wherever its links lead."""
        real = Path(os.path.realpath(cwd))
        return any(real.is_relative_to(os.path.realpath(folder)) for folder in self.dirs)

    def limited(self, argv: Sequence[str]) -> Sequence[str]:
        """Return what starts a command with its limit."""
        return argv if self.processes is None else [SHELL, "-c", LIMIT_PROCESSES, str(self.processes), *argv]
