"""A broker, a hub and workers as real processes on loopback, for one benchmark."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from broker.local import PrivateBroker

if TYPE_CHECKING:
    from types import TracebackType

READY_SECONDS = 20.0
_HUB_URL = re.compile(r"hub_ready.*?url=(\S+)")


class House:
    """Everything on this machine, in a folder that goes with it; `hub_url` is known once it is entered."""

    def __init__(self, *, workers: int, slots: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=os.environ.get("BENCH_DIR"))
        self._workers = workers
        self._slots = slots
        self.folder = Path(self._folder.name)
        self.broker = PrivateBroker()
        self.programs: dict[str, subprocess.Popen[str]] = {}
        self.hub_url = ""

    def __enter__(self) -> Self:
        self.broker.start()
        database = f"sqlite:///{self.folder / 'hub.db'}"
        hub = self._start(
            "hub",
            ["hub", "serve"],
            {"HUB_BROKER_URL": self.broker.url, "HUB_HTTP_PORT": "0", "HUB_DATABASE_URL": database},
        )
        self.hub_url = self._read_url(hub)
        for number in range(self._workers):
            self.start_worker(f"bench-{number}", self._slots)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self.programs.values():
            program.send_signal(signal.SIGTERM)
        for program in self.programs.values():
            try:
                program.wait(10)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        self.broker.close()
        self._folder.cleanup()

    def start_worker(self, name: str, slots: int) -> subprocess.Popen[str]:
        """Start one agent at the site `bench`."""
        settings = {
            "WORKER_ID": name,
            "WORKER_SITE": "bench",
            "WORKER_SLOTS": str(slots),
            "WORKER_BROKER_URL": self.broker.url,
            "WORKER_OFFLINE_DIR": str(self.folder / name),
        }
        return self._start(name, ["edge_agent", "run"], settings)

    def _start(self, name: str, module: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HUB_", "WORKER_"))}
        log = (self.folder / f"{name}.log").open("w")
        self.programs[name] = subprocess.Popen(
            [sys.executable, "-m", *module],
            env={**inherited, **settings},
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        return self.programs[name]

    def _read_url(self, hub: subprocess.Popen[str]) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and hub.poll() is None:
            found = _HUB_URL.search((self.folder / "hub.log").read_text())
            if found:
                return found[1]
            time.sleep(0.02)
        msg = f"the hub did not start:\n{(self.folder / 'hub.log').read_text()}"
        raise RuntimeError(msg)
