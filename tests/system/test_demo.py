"""`edge-hub demo`: the scenario ends as it should, taken ports do not stop it, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil
import pytest

from hub.demo.scenario import STEPS
from tests.support.programs import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = [sys.executable, "-m", "hub", "demo"]


@pytest.fixture
def taken_ports() -> Iterator[None]:
    """Hold 1883 and 8000, if nobody else does."""
    with ExitStack() as stack:
        for port in (1883, 8000):
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind(("127.0.0.1", port))
                holder.listen()
            except OSError:
                continue
        yield


@pytest.mark.usefixtures("taken_ports")
def test_the_scenario_runs_once_beside_taken_ports_and_says_so() -> None:
    done = subprocess.run(
        [*DEMO, "--once"], env=clean_environment({}), cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "port 1883 is taken: the broker listens on " in done.stdout
    assert "port 8000 is taken: the hub listens on " in done.stdout
    assert done.stdout.count("✓") == len(STEPS)
    assert f"All {len(STEPS)} tasks ended as they should." in done.stdout


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_everything_within_three_seconds(ending: signal.Signals) -> None:
    controller, terminal = pty.openpty()
    size = {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    demo = subprocess.Popen(DEMO, env=clean_environment(size), cwd=ROOT, stdin=terminal, stdout=terminal)
    os.close(terminal)
    shown = _read_until(controller, "no online worker at site-c", "mosquitto_pub")
    family = psutil.Process(demo.pid).children(recursive=True)
    assert len(family) == 5, [process.cmdline() for process in family]
    assert "worker-site-b-01" in shown

    began = time.monotonic()
    demo.send_signal(ending)
    code = demo.wait(10)
    assert time.monotonic() - began < 3
    assert code == 0
    assert not [process for process in family if process.is_running()]
    os.close(controller)


def _read_until(descriptor: int, *texts: str) -> str:
    """Read a terminal until it has shown all of `texts`."""
    shown, deadline = "", time.monotonic() + 30
    while any(text not in shown for text in texts):
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, f"{texts} were not all shown"
        shown += os.read(descriptor, 65536).decode(errors="replace")
    return shown
