"""Finds and starts a private mosquitto on loopback, for the demo and the tests."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from broker.errors import BrokerStartError

if TYPE_CHECKING:
    from types import TracebackType

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 10.0
STOP_TIMEOUT_SECONDS = 2.0
_OFTEN_OFF_PATH = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/bin")

_CONFIGURATION = """\
user {user}
listener {port} {host}
allow_anonymous true
set_tcp_nodelay true
persistence {persistence}
persistence_location {directory}/
max_queued_messages 100000
max_inflight_messages 200
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
"""


def find_mosquitto() -> str:
    """Return the path of mosquitto. Raises `BrokerStartError` that says how to install it."""
    return _find("mosquitto", package="mosquitto")


def find_client(name: str) -> str:
    """Return the path of `mosquitto_pub` and its like. Raises `BrokerStartError` that says how to install it."""
    return _find(name, package="mosquitto-clients")


def _find(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=":".join(_OFTEN_OFF_PATH))
    if not found:
        msg = f"{name} is not installed: run 'make setup', or install the package '{package}' yourself"
        raise BrokerStartError(msg)
    return found


def free_port(wanted: int = 0) -> int:
    """Return `wanted` if nothing on this machine listens there, else a port that is free now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            return free_port()
        port: int = probe.getsockname()[1]
        return port


class PrivateBroker:
    """A mosquitto of our own, that listens on loopback only.

    `start` returns when it listens; `stop` ends it. A broker that was stopped or killed starts again on its old
    port, with its old store where `persistent` is true.
    """

    def __init__(
        self, *, port: int = 0, directory: Path | None = None, persistent: bool = False, extra: str = ""
    ) -> None:
        self.port = free_port(port)
        self._own_directory = None if directory else tempfile.TemporaryDirectory(prefix="holdfast-broker-")
        self.directory = directory or Path(self._own_directory.name if self._own_directory else "")
        self._persistent = persistent
        self._extra = extra
        self._process: subprocess.Popen[str] | None = None
        self.log: list[str] = []

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"mqtt://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        if self._process is None:
            msg = "the private broker is not running"
            raise BrokerStartError(msg)
        return self._process.pid

    def start(self) -> None:
        """Start, and return once it listens. Raises `BrokerStartError`."""
        configuration = self.directory / "mosquitto.conf"
        configuration.write_text(self.configuration(), encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603
            [find_mosquitto(), "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us to pass on, in order
        )
        running = threading.Event()
        threading.Thread(target=self._read_log, args=(self._process, running), daemon=True).start()
        if not running.wait(START_TIMEOUT_SECONDS) or self._process.poll() is not None:
            self.kill()
            msg = f"mosquitto did not start on port {self.port}: {' / '.join(self.log[-5:]) or 'it said nothing'}"
            raise BrokerStartError(msg)

    def configuration(self) -> str:
        """Return what it is started with, as mosquitto.conf has it."""
        text = _CONFIGURATION.format(
            user=getpass.getuser(),  # started by root, mosquitto would change to a user who may not write here
            port=self.port,
            host=HOST,
            persistence="true" if self._persistent else "false",
            directory=self.directory,
        )
        return text + self._extra

    def stop(self) -> None:
        """End it in order; kill it if it takes more than two seconds."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop, and remove what it wrote."""
        self.stop()
        if self._own_directory:
            self._own_directory.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_log(self, process: subprocess.Popen[str], running: threading.Event) -> None:
        if process.stderr is None:
            return
        with process.stderr as lines:
            for line in lines:
                self.log.append(line.rstrip())
                del self.log[:-200]
                if line.rstrip().endswith("running"):
                    running.set()
        running.set()  # it ended: `start` looks at the exit code
