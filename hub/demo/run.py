"""Runs the demo: waits for the fleet, plays the scenario, and shows it until all has ended or the user has."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING, Any, cast

import httpx
from rich.live import Live
from rich.text import Text

from broker.errors import BrokerStartError
from hub import terminal
from hub.demo import screen
from hub.demo.processes import DemoProcesses
from hub.demo.scenario import STEPS, WORKERS
from hub.rules.task import ENDED

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from rich.console import Console, RenderableType

    from hub.demo.scenario import Step

READY_SECONDS = 20.0
SCENARIO_SECONDS = 30.0
REFRESH_SECONDS = 0.25
PICTURE_WIDTH = 132
PICTURE_HEIGHT = 40
EXIT_FAILED = 1

PASTE = '{"kind":"noop"}'


class DemoFailed(Exception):
    """The demo could not go on; the text says why."""


def run(*, once: bool, picture: Path | None = None) -> int:
    """Run the demo and return the exit code: 0 if every task ended as it should.

    Args:
        once: End when the scenario has, with a summary.
        picture: Where to write what the screen shows at the end, as SVG.

    """
    console = (
        terminal.console(record=True, width=PICTURE_WIDTH, height=PICTURE_HEIGHT) if picture else terminal.console()
    )
    for ending in (signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        signal.signal(ending, _interrupt)
    try:
        with DemoProcesses() as processes:
            return _Demo(processes, console).play(once=once, picture=picture)
    except KeyboardInterrupt:
        console.print("The demo has ended; nothing of it is left running.")
        return 0
    except (DemoFailed, BrokerStartError, httpx.HTTPError) as error:
        console.print(Text.assemble(("The demo failed:", "red"), f" {error}"))
        return EXIT_FAILED


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Demo:
    def __init__(self, processes: DemoProcesses, console: Console) -> None:
        self._processes = processes
        self._console = console
        self._http = httpx.Client(base_url=processes.hub_url, timeout=10)

    def play(self, *, once: bool, picture: Path | None) -> int:
        """Play the scenario, on a live screen unless it is to run once."""
        if once:
            self._say(f"Starting a broker, a hub and {len(WORKERS)} workers in {self._processes.folder} …")
            for note in self._processes.notes:
                self._say(note)
            self._wait_for_workers()
            self._submit()
            self._wait_for_ends()
            return self._conclude(picture)
        with Live(console=self._console, refresh_per_second=8, screen=self._console.is_terminal) as live:
            self._wait_for_workers()
            self._submit()
            while True:
                live.update(self._picture())
                self._check()
                time.sleep(REFRESH_SECONDS)

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            self._check()
            online = self._online()
            if online == len(WORKERS):
                self._say(f"{online} workers are online; the hub is at {self._processes.hub_url}")
                return
            time.sleep(0.05)
        msg = f"the workers were not online after {READY_SECONDS:g} s"
        raise DemoFailed(msg)

    def _online(self) -> int:
        try:
            return len(self._items("/api/workers?state=online"))
        except httpx.TransportError:
            return 0  # the hub does not listen yet

    def _submit(self) -> None:
        for step in STEPS:
            if step.inject_at:
                self._processes.inject(step.inject_at, step.payload(self._processes.hub_url))
            else:
                self._http.post("/api/tasks", content=step.payload(self._processes.hub_url)).raise_for_status()
        self._processes.inject(WORKERS[0].site, '{"kind": "noop", "timeout_secs": 5}')  # misspelt: to be refused
        self._say(f"{len(STEPS)} tasks are on their way, one of them by mosquitto_pub")

    def _wait_for_ends(self) -> None:
        deadline = time.monotonic() + SCENARIO_SECONDS
        for step in STEPS:
            while not self._has_ended(step) and time.monotonic() < deadline:
                self._check()

    def _has_ended(self, step: Step) -> bool:
        answer = self._http.get(f"/api/tasks/{step.id}/wait", params={"timeout": 5})
        if answer.status_code == httpx.codes.NOT_FOUND:  # injected: the hub has not heard of it yet
            time.sleep(0.05)
            return False
        return answer.raise_for_status().json()["state"] in ENDED

    def _conclude(self, picture: Path | None) -> int:
        tasks = {task["id"]: task for task in self._items("/api/tasks?limit=500")}
        refused = self._items("/api/rejections")
        if picture:
            self._console.print(self._picture())
            svg = self._console.export_svg(title="edge-hub demo", clear=False)
            # Without the fonts that rich has fetched from elsewhere: any monospace will do.
            picture.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")
        self._console.print(screen.summary(STEPS, tasks))
        self._say(
            f"refused, as it should be: {refused[0]['reason']}" if refused else "the misspelt task was not refused"
        )
        wrong = [step.id for step in STEPS if tasks.get(step.id, {}).get("state") != step.expected]
        if wrong or not refused:
            self._say(f"Not as it should be: {', '.join(wrong) or 'the misspelt task'}")
            return EXIT_FAILED
        self._say(f"All {len(STEPS)} tasks ended as they should.")
        return 0

    def _picture(self) -> RenderableType:
        below = screen.footer(
            self._processes.hub_url, self._processes.publish_command("site-c", PASTE), self._processes.notes
        )
        return screen.screen(
            self._items("/api/workers"),
            self._items("/api/tasks"),
            self._items("/api/rejections"),
            below,
            width=self._console.width,
            height=self._console.height,
        )

    def _items(self, path: str) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self._http.get(path).raise_for_status().json()["items"])

    def _check(self) -> None:
        dead = self._processes.dead()
        if dead:
            raise DemoFailed(dead)

    def _say(self, text: str) -> None:
        if not self._console.is_alt_screen:
            self._console.print(text)
