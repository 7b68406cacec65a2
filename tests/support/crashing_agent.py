"""Real agents that kill themselves where a test says, each a process of its own.

An agent's side effects are wrapped from outside: each statement and commit of the writer's thread, each publish, each
acknowledgement, each subscription, each run of an executor, each start of a process. Each of them is a *point*, with a
name and a count (`INSERT-journal#2`), and an agent that is to crash at a point gets SIGKILL right before it, or at the
latest when it has nothing left to do. Points count from the moment that a task comes, or from the start.

As a program this is a nursery: it has loaded everything, and forks an agent for each order that it reads, so that a
hundred crashes do not take a hundred times the start of Python.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker import link, log
from edge_agent.app import App
from edge_agent.executors import command, process
from edge_agent.executors.handler import Handler
from edge_agent.intake import Intake
from edge_agent.settings import WorkerSettings
from edge_agent.store.sqlite import connect
from tests.support import traced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

QUIET_SECONDS = 0.1
IDLE = "idle"
"""The last point: nothing is left to do, and nothing was done for a while."""

_UNSEEN = frozenset({"PRAGMA", "SELECT", "SAVEPOINT", "RELEASE"})
"""What neither changes the file nor tells anybody."""

_STEPS = {"INSERT-inbox": "take", "UPDATE-inbox": "begin", "INSERT-ended": "end", "DELETE-journal": "settle"}
"""What a transaction is about, by the statements in it: `COMMIT-begin`. One of several is as many points."""

_TABLE = re.compile(r"\b(?:INTO|FROM|UPDATE|TABLE|INDEX|TRIGGER)\s+(\w+)")


class Points:
    """Counts what an agent does, tells each through `told`, and kills it before the one that is `crash_at`."""

    def __init__(self, told: int, *, crash_at: str | None) -> None:
        self.armed = False
        self.last = time.monotonic()
        self._told = told
        self._crash_at = crash_at
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def tell(self, line: str) -> None:
        """Let the test know."""
        os.write(self._told, f"{line}\n".encode())

    def reach(self, name: str) -> None:
        """Pass a point, or die."""
        if not self.armed:
            return
        with self._lock:
            self.last = time.monotonic()
            self._counts[name] += 1
            point = f"{name}#{self._counts[name]}"
            self.tell(point)
            if self._crash_at and (point == self._crash_at or name == IDLE):
                os.kill(os.getpid(), signal.SIGKILL)


def watch(points: Points) -> None:
    """Wrap the side effects of the agent in this process."""

    class Watched(sqlite3.Connection):
        steps: tuple[str, ...] = ()

        def execute(self, sql: str, /, *values: Any) -> sqlite3.Cursor:  # noqa: ANN401
            return self._pass(sql, partial(super().execute, sql, *values))

        def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
            return self._pass(sql, partial(super().executemany, sql, rows))

        def _pass(self, sql: str, act: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
            name = _name(sql)
            if name in _STEPS and _STEPS[name] not in self.steps:
                self.steps += (_STEPS[name],)
            if name != "COMMIT":
                if name:
                    points.reach(name)
                return act()
            about = [f"-{step}" for step in self.steps] or [""]
            for step in about:
                points.reach(f"COMMIT{step}")
            cursor = act()
            for step in about:
                points.reach(f"committed{step}")
            self.steps = ()
            return cursor

    sqlite3.connect = partial(sqlite3.connect, factory=Watched)  # type: ignore[assignment]
    _before(Intake, "take", lambda *_: _arm(points))
    _before(Intake, "take_assigned", lambda _, some: _arm(points) if some else None)
    _before(link, "_acknowledge", lambda *_: points.reach("ack"))
    _before(link.Connection, "publish", lambda _, topic, *__, **___: points.reach(f"publish-{topic.split('/')[-1]}"))
    _before(link.Connection, "subscribe", lambda *_, **__: points.reach("subscribe"))
    _before(Handler, "run", lambda *_: points.reach("run"))
    _before(command.Command, "run", lambda *_: points.reach("run"))
    _before(command.Command, "reattach", lambda *_: points.reach("reattach"))
    _before(process, "_spawn", lambda *_: points.reach("start"))
    _before(traced, "note", lambda _, line: points.reach(f"trace-{line.split()[0]}"))


def _name(sql: str) -> str:
    """Return what a statement does: `INSERT-journal`, `COMMIT`; nothing for one that changes nothing."""
    verb = sql.split(maxsplit=1)[0].upper()
    table = _TABLE.search(sql)
    return "" if verb in _UNSEEN else f"{verb}-{table[1]}" if table else verb


def _before(owner: Any, name: str, look: Callable[..., None]) -> None:  # noqa: ANN401
    """Let `look` see each call of a function before it is made."""
    inner = getattr(owner, name)

    @wraps(inner)
    def outer(*values: Any, **more: Any) -> Any:  # noqa: ANN401
        look(*values, **more)
        return inner(*values, **more)

    setattr(owner, name, outer)


def _arm(points: Points) -> None:
    points.armed = True
    points.reach("take")


async def live(settings: WorkerSettings, points: Points) -> None:
    """Run an agent; tell when it is online, and reach the last point when it has nothing left to do."""
    app = App(settings)
    app.open()
    async with asyncio.TaskGroup() as group:
        group.create_task(app.run())
        await app.online.wait()
        # What it tells of its start is none of what comes.
        while not points.armed and (app.journal.depth.rows or not app.journal.newest):  # noqa: ASYNC110
            await asyncio.sleep(QUIET_SECONDS / 5)
        points.tell("online")
        await _until_idle(app, points)
        points.reach(IDLE)


async def _until_idle(app: App, points: Points) -> None:
    before = 0 if points.armed else app.journal.newest
    while True:
        await asyncio.sleep(QUIET_SECONDS / 2)  # what it waits for is in many places, and tells nobody
        is_done = app.journal.newest > before and not app.runner.held and not app.journal.depth.rows
        if is_done and time.monotonic() - points.last > QUIET_SECONDS:
            return


def bear(order: dict[str, Any]) -> None:
    """Become the agent that was ordered."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ |= {traced.LIFE: order["log"], traced.AGENT: str(os.getpid())}
    output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, sys.stderr.fileno())
    told = os.open(order["told"], os.O_WRONLY)
    points = Points(told, crash_at=order["crash_at"])
    points.tell(f"pid {os.getpid()}")
    points.armed = order["from_start"]
    watch(points)
    log.configure(level="debug", style="text")
    work: Awaitable[None] = live(WorkerSettings(**order["settings"]), points)
    asyncio.run(work)  # type: ignore[arg-type]


def warm_up() -> None:
    """Load what an agent loads when it first needs it, which would be most of what a short life costs."""
    with tempfile.TemporaryDirectory() as folder:
        connect(Path(folder) / "journal.db").close()
    "a host".encode("idna")
    gc.collect()
    gc.freeze()  # memory that nobody looks at stays shared


def main() -> None:
    """Fork an agent for each order, a line of JSON each, until there are no more."""
    warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    for line in sys.stdin:
        if os.fork() == 0:
            try:
                bear(json.loads(line))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                raise
            finally:
                sys.stderr.flush()
                os._exit(1)


if __name__ == "__main__":
    main()
