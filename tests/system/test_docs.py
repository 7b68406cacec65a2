"""The commands of the guides, run as they stand, so that they cannot rot."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from broker.local import find_client
from hub.demo.processes import DemoProcesses
from hub.demo.scenario import WORKERS
from tests.support.programs import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXPECTED = {
    "README.md": [
        '"state":"succeeded"',  # submitted by HTTP
        '"via":"site"',  # injected
        '"ping":1',  # mosquitto_rr
        "timeout_secs is 5: there is no such field",
        '"items":',  # who is offline
        "hello you!",
    ],
    "docs/handlers.md": [
        '"result":{"camera":"front","areas":1}',
        "params.areas[0].y is -2: expected a whole number from 0",
    ],
    "docs/commands.md": ['"output":"1\\n2\\n3\\n"', "x-log-size: 6"],
    "docs/http-tasks.md": [
        '"status":200',  # a check
        "status is 404, expected 2xx",
        "hooked",
    ],
    "docs/schedules.md": [
        '"timezone":"Europe/Berlin"',
        'cron is \\"0 25 * * *\\": expected an hour from 0 to 23',
    ],
    "docs/routing.md": [
        "nightly-7 is pending: no online worker at site-a has forklift",
        "forklift is missing, expected true",
        "nightly-7 is cancelled: cancelled: no need",
        'is succeeded: {"n":1}',
    ],
    "docs/api.md": ['"status":"ok"', "timeout_seconds is -1: expected a number above 0"],
}
FOR_PEOPLE = re.compile(r"^(make |pgrep ).*\n?", re.MULTILINE)


@pytest.fixture(scope="module")
def demo() -> Iterator[DemoProcesses]:
    with DemoProcesses() as processes, httpx.Client(base_url=processes.hub_url) as http:
        deadline = time.monotonic() + 20
        while _online(http) < len(WORKERS):
            assert time.monotonic() < deadline, processes.dead()
        yield processes


@pytest.mark.parametrize("guide", EXPECTED)
def test_the_commands_of_a_guide_do_what_it_says(guide: str, demo: DemoProcesses, tmp_path: Path) -> None:
    text = (ROOT / guide).read_text(encoding="utf-8")
    python = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if python:
        (tmp_path / "my_site.py").write_text(python[1], encoding="utf-8")
    shown: list[str] = []
    with _workers(tmp_path, demo) as start:
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            script = _here(FOR_PEOPLE.sub("", block), demo)
            if "my_site.py" in script or "edge-agent run" in script:
                start(script)
            elif script.strip():
                shown.extend(_run(command, tmp_path, demo) for command in _commands(script))
    wanted = EXPECTED[guide]
    assert [text for text in wanted if text not in "".join(shown)] == [], "\n".join(shown)


def _online(http: httpx.Client) -> int:
    try:
        return len(http.get("/api/workers", params={"state": "online"}).json()["items"])
    except httpx.TransportError:
        return 0


def _here(script: str, demo: DemoProcesses) -> str:
    """Put this machine's ports and programs in place of the usual ones."""
    for client in ("mosquitto_pub", "mosquitto_rr"):
        script = script.replace(f"{client} ", f"{find_client(client)} -p {demo.broker.port} ")
    return script.replace("localhost:8000", f"127.0.0.1:{demo.http_port}").replace(".venv/bin", str(ROOT / ".venv/bin"))


def _commands(script: str) -> list[str]:
    """Take a block apart, where a line ends a command."""
    return re.split(r"(?<![|\\])\n(?=\S)", script.strip())


def _run(script: str, folder: Path, demo: DemoProcesses) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    if "mosquitto_pub" in script:
        _settle(demo)
    return done.stdout


def _settle(demo: DemoProcesses) -> None:
    """Wait until the hub has what the workers had reported by now: a task at each of them is told after all that."""
    with httpx.Client(base_url=demo.hub_url, timeout=20) as http:
        for worker in WORKERS:
            task = http.post("/api/tasks", json={"kind": "noop", "worker": worker.id}).raise_for_status().json()
            http.get(f"/api/tasks/{task['id']}/wait").raise_for_status()


@contextmanager
def _workers(folder: Path, demo: DemoProcesses) -> Iterator[Callable[[str], None]]:
    """Start what the guide leaves running in a terminal of its own, and end it with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(script: str) -> None:
        settings = {"WORKER_CONTROL_PLANE_URL": demo.hub_url}
        command = script.replace("=/tmp", f"={folder}").strip()
        worker = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            cwd=folder,
            env=clean_environment(settings),
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(worker)
        assert worker.stderr
        assert any("synced" in line for line in worker.stderr), "the worker of the guide ended"

    try:
        yield start
    finally:
        for worker in running:
            worker.terminate()
            worker.communicate(timeout=10)
