"""What is left of a command whose agent died: how it is found again, and ended.

A command has a group of its own, so it lives on when its agent is killed. The agent's next start ends it, before
anybody runs the task again. Its handle has a *mark*, which is on the disk before the command begins and which whatever
comes of the command inherits in its environment; and the process, as soon as there is one, for those that clear theirs.

Linux could do it at once (`PR_SET_PDEATHSIG`). It would end the command alone and not what that has started, forget
about programs that change their user, fire when the thread ends that has forked, and need Python code between fork and
exec, which must not be where there are threads. A service manager does better: systemd ends a unit's whole group.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import psutil

from broker.clock import new_id
from broker.messages import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MARK = "HOLDFAST_RUN"
"""The variable that holds the mark."""

_ROUNDS = 3
"""How often it is looked for what was started while the rest was ended."""

_LOOK_SECONDS = 0.02
"""How often it is looked whether a process has ended: they are no children, whose end would be told."""


class Handle(Message):
    """What finds a command again.

    Attributes:
        mark: What its environment says.
        pid: The leader of its group,
        created: and when that was started, in the system's words: a number may be given to another process.

    """

    mark: str
    pid: int | None = None
    created: float | None = None

    @classmethod
    def new(cls) -> Handle:
        """Return the handle of a command that is about to begin."""
        return cls(mark=new_id())

    def of(self, pid: int) -> Handle:
        """Return the handle of a command that has begun."""
        with contextlib.suppress(psutil.Error):  # it has ended already
            return self.model_copy(update={"pid": pid, "created": psutil.Process(pid).create_time()})
        return self


def end(handle: Handle, grace_seconds: float) -> tuple[list[int], list[int]]:
    """End all that is left: ask, and after a while do not ask; return whom it found, and who would not go.

    It blocks as long as that takes.
    """
    found: dict[int, psutil.Process] = {}
    for _ in range(_ROUNDS):
        left = list(_find(handle))
        if not left:
            return list(found), []
        found |= {one.pid: one for one in left}
        _signal(left, psutil.Process.terminate)
        alive = _wait(left, grace_seconds)
        _signal(alive, psutil.Process.kill)
        _wait(alive, grace_seconds)
    return list(found), [one.pid for one in _find(handle)]


def _find(handle: Handle) -> Iterator[psutil.Process]:
    has_leader = _is_there(handle)
    for process in psutil.process_iter():
        is_ours = (has_leader and _is_in_group(process, handle)) or _is_marked(process, handle)
        if is_ours and process.pid != os.getpid():
            yield process


def _is_there(handle: Handle) -> bool:
    with contextlib.suppress(psutil.Error):
        return handle.pid is not None and psutil.Process(handle.pid).create_time() == handle.created
    return False


def _is_in_group(process: psutil.Process, handle: Handle) -> bool:
    with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
        return os.getpgid(process.pid) == handle.pid and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_marked(process: psutil.Process, handle: Handle) -> bool:
    with contextlib.suppress(psutil.Error, OSError):  # it is another user's, or has ended
        return process.environ().get(MARK) == handle.mark
    return False


def _wait(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for processes to end, and return those that have not in time.

    `psutil.wait_procs` waits until somebody has reaped them too. In a container that may be nobody.
    """
    deadline = time.monotonic() + seconds
    while (alive := [one for one in processes if _runs(one)]) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return alive


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _signal(processes: Iterable[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended, or is another user's: it is looked for again
            send(process)
