"""Starts what the demo needs, each a process of its own as in the field, and ends all of it within three seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from broker.errors import BrokerStartError
from broker.local import HOST, PrivateBroker, find_client, free_port
from broker.topics import SiteTasks, Topics
from hub.demo.scenario import ALLOWED_COMMANDS, WORKERS

if TYPE_CHECKING:
    from types import TracebackType

    from hub.demo.scenario import DemoWorker

WANTED_BROKER_PORT = 1883
WANTED_HTTP_PORT = 8000
HEARTBEAT_SECONDS = 2
STOP_SECONDS = 1.5
LOG_TAIL_LINES = 15


class DemoProcesses:
    """A broker, a hub and three workers, in a folder that goes with them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-demo-")
        self.folder = Path(self._folder.name)
        self.broker = PrivateBroker(port=WANTED_BROKER_PORT)
        self.http_port = free_port(WANTED_HTTP_PORT)
        self._programs: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def hub_url(self) -> str:
        """Where the hub's API is."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def notes(self) -> list[str]:
        """What is not where people would look for it."""
        moved = []
        if self.broker.port != WANTED_BROKER_PORT:
            moved.append(f"port {WANTED_BROKER_PORT} is taken: the broker listens on {self.broker.port}")
        if self.http_port != WANTED_HTTP_PORT:
            moved.append(f"port {WANTED_HTTP_PORT} is taken: the hub listens on {self.http_port}")
        return moved

    def publish_command(self, site: str, payload: str) -> list[str]:
        """Return the `mosquitto_pub` command that injects `payload` at `site`."""
        topic = Topics().build(SiteTasks(site))
        port = [] if self.broker.port == WANTED_BROKER_PORT else ["-p", str(self.broker.port)]
        return ["mosquitto_pub", *port, "-q", "1", "-t", topic, "-m", payload]

    def inject(self, site: str, payload: str) -> None:
        """Run `mosquitto_pub`, as a person would. Raises `BrokerStartError` where there is none."""
        name, *arguments = self.publish_command(site, payload)
        subprocess.run([find_client(name), *arguments], check=True, timeout=10)  # noqa: S603

    def start(self) -> None:
        """Start everything; the programs find each other by themselves."""
        self.broker.start()
        hub = {
            "HUB_BROKER_URL": self.broker.url,
            "HUB_HTTP_PORT": str(self.http_port),
            "HUB_DATABASE_URL": f"sqlite:///{self.folder / 'hub.db'}",
        }
        self._start("hub", ["hub", "serve"], hub)
        for worker in WORKERS:
            self._start(worker.id, ["edge_agent", "run"], self._worker_environment(worker))

    def dead(self) -> str | None:
        """Return what is known of the first program that ended by itself."""
        for name, program in self._programs.items():
            if program.poll() is not None:
                tail = "\n".join(self._log(name).read_text(encoding="utf-8").splitlines()[-LOG_TAIL_LINES:])
                return f"{name} ended with exit code {program.returncode}:\n{tail}"
        return None

    def stop(self) -> None:
        """End the workers and the hub in order, then the broker; kill what takes too long."""
        for program in self._programs.values():
            if program.poll() is None:
                program.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for program in self._programs.values():
            try:
                program.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        self.broker.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        try:
            self.start()
        except (BrokerStartError, OSError):
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, name: str, module: list[str], settings: dict[str, str]) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HUB_", "WORKER_"))}
        with self._log(name).open("wb") as log:
            self._programs[name] = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", *module],
                env={**inherited, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo to pass on, in order
            )

    def _worker_environment(self, worker: DemoWorker) -> dict[str, str]:
        return {
            "WORKER_ID": worker.id,
            "WORKER_SITE": worker.site,
            "WORKER_CONTROL_PLANE_URL": self.hub_url,
            "WORKER_POLL_INTERVAL_SECONDS": "0.5",
            "WORKER_HEARTBEAT_INTERVAL_SECONDS": str(HEARTBEAT_SECONDS),
            "WORKER_CAPABILITIES": json.dumps(worker.capabilities),
            "WORKER_OFFLINE_DIR": str(self.folder / worker.id),
            "WORKER_ALLOW_COMMANDS": json.dumps(ALLOWED_COMMANDS),
            "WORKER_PLUGINS": "edge_agent.samples",
            "WORKER_STOP_SECONDS": "0.5",
        }

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
