"""What is left of a command whose agent died: how it is found again, and ended.

A command has a group of its own, so it lives on when its agent is killed. The agent's next start ends it, before
anybody runs the task again. At a command's end, whoever has left its group is found in the same way. Its handle has a
*mark*, which is on the disk before the command begins and which whatever comes of the command inherits in its
environment; and the process, as soon as there is one, for those that clear theirs.

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
    from collections.abc import Callable, Iterable

MARK = "HOLDFAST_RUN"
"""The variable that holds the mark."""

KILL_SECONDS = 5.0
"""How long it is tried to end those who do not go by themselves, and who start others faster than they are ended."""

_LOOKS = 3
_EXEC_SECONDS = 0.001
"""How often and how long it is waited for a program to take the place of another."""

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

    def without_leader(self) -> Handle:
        """Return the handle of what may be left when the leader has ended: its number may be another's by now."""
        return Handle(mark=self.mark)

    def of(self, pid: int) -> Handle:
        """Return the handle of a command that has begun."""
        with contextlib.suppress(psutil.Error):  # it has ended already
            return self.model_copy(update={"pid": pid, "created": psutil.Process(pid).create_time()})
        return self


def end(handle: Handle, grace_seconds: float) -> tuple[list[int], list[int]]:
    """End all that is left: ask, and after a while do not ask; return whom it found, and who would not go.

    It blocks as long as that takes.
    """
    left = _find(handle)
    found = {one.pid for one in left}
    _signal(left, psutil.Process.terminate)
    _wait(left, grace_seconds)
    deadline = time.monotonic() + KILL_SECONDS
    while left and time.monotonic() < deadline:  # again for what was started while the rest was ended
        left = _find(handle)
        found |= {one.pid for one in left}
        _signal(left, psutil.Process.kill)
        _wait(left, KILL_SECONDS)
    return sorted(found), [one.pid for one in left if _runs(one)]


def _find(handle: Handle) -> list[psutil.Process]:
    pids = _marked(handle.mark) | (_group(handle) if _is_there(handle) else set())
    found = []
    for pid in pids - {os.getpid()}:
        with contextlib.suppress(psutil.Error):  # it has ended
            found.append(psutil.Process(pid))
    return [process for process in found if _runs(process)]


def _is_there(handle: Handle) -> bool:
    with contextlib.suppress(psutil.Error):
        return handle.pid is not None and psutil.Process(handle.pid).create_time() == handle.created
    return False


def _group(handle: Handle) -> set[int]:
    found = set()
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == handle.pid:
                found.add(pid)
    return found


def _marked(mark: str) -> set[int]:
    """Return the processes that have the mark.

    An environment is empty while a program takes the place of another (execve(2)), and then has to be read again.
    """
    if not psutil.LINUX:
        return {one.pid for one in psutil.process_iter() if _has_variable(one, mark)}
    sought, found = f"{MARK}={mark}".encode(), set()
    unclear = psutil.pids()
    for look in range(_LOOKS):
        if look:
            time.sleep(_EXEC_SECONDS)
        texts = {pid: _environment(pid) for pid in unclear}
        found |= {pid for pid, text in texts.items() if text and sought in text.split(b"\0")}
        unclear = [pid for pid, text in texts.items() if text == b"" and _is_program(pid)]
        if not unclear:
            break
    return found


def _has_variable(process: psutil.Process, mark: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):  # it is another user's, or has ended
        return process.environ().get(MARK) == mark
    return False


def _environment(pid: int) -> bytes | None:
    """Read an environment, in a tenth of psutil's time: at the end of each command it is looked at everybody's."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123  the same
        return file.read()
    return None  # it is another user's, or has ended


def _is_program(pid: int) -> bool:
    """Tell whether a process has a program, as a kernel's thread and one that has ended do not."""
    with contextlib.suppress(OSError):
        os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115  the same
        return True
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
