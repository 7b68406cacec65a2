"""A Docker Engine of the tests' own, which they may stop, and an image to run on it that needs no network."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import psutil
import requests
from docker.errors import APIError, DockerException

from tests.support.needs import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE = "holdfast-test-busybox:1"
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
APPLETS = "cat dd echo env false head id kill ls mount ping printf ps seq sh sleep sync touch trap true uptime wc yes"
PATIENCE_SECONDS = 40.0
START_SECONDS = 30.0
STOP_SECONDS = 40.0
LOOK_SECONDS = 0.05
"""Nobody tells a process that is no child of ours, or a socket that is to come, so it is looked for."""

_bridges = itertools.count(1)


class TestEngine:
    """A dockerd that a test starts, stops, freezes and kills; it is started with its containers as it was left.

    Attributes:
        url: Where it answers.
        bridge: The network that containers get who ask for one, if there is a program to make it.
        prefix: What stands before the command that starts it.

    """

    __test__ = False

    def __init__(self, folder: Path, *, bridge: str | None, live_restore: bool = False) -> None:
        self.folder = folder
        self.bridge = bridge
        self.live_restore = live_restore
        self.url = f"unix://{folder}/docker.sock"
        self.prefix: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The engine's process."""
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start it; return when it answers."""
        folder = self.folder
        command = [*self.prefix, _find("dockerd"), *(f"--{name}={value}" for name, value in self.options().items())]
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                missing(f"a dockerd that starts (as root): {(folder / 'log').read_text()[-600:]}")
            time.sleep(LOOK_SECONDS)

    def options(self) -> dict[str, str]:
        """Return what it is started with."""
        folder = self.folder
        return {
            "host": self.url,
            "data-root": str(folder / "data"),
            "exec-root": str(folder / "exec"),
            "pidfile": str(folder / "pid"),
            "bridge": self.bridge or "none",
            "iptables": "false",
            "ip6tables": "false",
            "ip-masq": "false",
            "live-restore": str(self.live_restore).lower(),
        }

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, by default in order: then it stops its containers first."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, how)
        self._process.wait(STOP_SECONDS)
        self._process = None
        if how is signal.SIGKILL:  # which it leaves behind, and would not start beside
            self._end_containerd()

    def freeze(self) -> None:
        """Let it answer nobody."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def answers(self) -> bool:
        """Tell whether it answers."""
        try:
            with contextlib.closing(self.api()) as api:
                return bool(api.ping())
        except (DockerException, requests.RequestException):
            return False

    def api(self) -> docker.APIClient:
        """Return a client, to look past the agent."""
        return docker.APIClient(base_url=self.url, version="1.41", timeout=20)

    def containers(self, **labels: str) -> list[dict[str, Any]]:
        """Return all containers that have labels of ours: `worker="w1"`."""
        filters = {"label": [f"holdfast.{name}={value}" for name, value in labels.items()] or ["holdfast.worker"]}
        with contextlib.closing(self.api()) as api:
            found: list[dict[str, Any]] = api.containers(all=True, filters=filters)
            return found

    async def until(self, look: Callable[[], object]) -> None:
        """Wait until `look`, asked after each thing that happens on the engine, finds something."""
        await asyncio.to_thread(self._wait_until, look)

    def _wait_until(self, look: Callable[[], object]) -> None:
        with contextlib.closing(self.api()) as api:
            events = api.events(until=int(time.time() + PATIENCE_SECONDS))  # from before the first look
            if look() or any(look() for _ in events):
                events.close()
                return
        raise AssertionError(f"it has not come about on the engine: {self.containers()}")

    async def until_written(self, container: str, sought: bytes) -> None:
        """Wait until a container has written something."""

        def read() -> None:
            with contextlib.closing(self.api()) as api:
                written = b""
                for data in (output := api.logs(container, stream=True, follow=True)):
                    written += data
                    if sought in written:
                        output.close()
                        return
            raise AssertionError(f"it has written {written!r}")

        await asyncio.to_thread(read)

    def running(self) -> list[str]:
        """Return the ids of our containers that run."""
        return [one["Id"] for one in self.containers() if one["State"] == "running"]

    def import_image(self, name: str = IMAGE) -> None:
        """Make the image."""
        repository, _, tag = name.partition(":")
        with contextlib.closing(self.api()) as api:
            api.import_image_from_data(busybox_tar(), repository=repository, tag=tag)

    def clear(self) -> None:
        """Remove what a test has left."""
        with contextlib.closing(self.api()) as api:
            for one in api.containers(all=True):
                with contextlib.suppress(APIError):
                    api.remove_container(one["Id"], force=True, v=True)

    def _end_containerd(self) -> None:
        file = self.folder / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + START_SECONDS
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def running_engine(*, live_restore: bool = False) -> Iterator[TestEngine]:
    """Run an engine with the image until the block is left."""
    if os.geteuid() != 0:
        missing("root, to start a dockerd")
    folder = Path(tempfile.mkdtemp(prefix="hf-", dir="/tmp"))  # a socket's path has to be short
    bridge = _make_bridge()
    engine = TestEngine(folder, bridge=bridge, live_restore=live_restore)
    try:
        engine.start()
        engine.import_image()
        yield engine
    finally:
        if engine._process is not None:  # noqa: SLF001
            with contextlib.suppress(ProcessLookupError):
                engine.thaw()
            engine.clear()
            engine.stop()
        _leave_nothing(folder)
        if bridge:
            subprocess.run(["ip", "link", "delete", bridge], check=False)


def busybox_tar(note: bytes = b"") -> bytes:
    """Return a root file system with nothing but busybox, and a file `note` that makes it another one."""
    found = [path for path in BUSYBOX if Path(path).exists()]
    if not found:
        missing("busybox-static (Debian and Ubuntu: apt-get install busybox-static)")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(Path(found[0]).resolve(), "bin/busybox")
        for applet in APPLETS.split():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o755
            tar.addfile(link)
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(tmp)
        other = tarfile.TarInfo("note")
        other.size = len(note)
        tar.addfile(other, io.BytesIO(note))
    return buffer.getvalue()


def _leave_nothing(folder: Path) -> None:
    """End what an engine that was killed has left running, and remove its folder, which it has mounted upon itself."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in word for word in process.cmdline()):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=START_SECONDS)
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounted if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _make_bridge() -> str | None:
    """Make a network interface that no other engine uses."""
    number = next(_bridges)
    name = f"hf{os.getpid() % 10**6}-{number}"
    address = f"10.213.{(os.getpid() + number) % 256}.1/24"
    if shutil.which("ip") is None:
        return None
    for words in (["add", name, "type", "bridge"], ["set", name, "up"]):
        if subprocess.run(["ip", "link", *words], check=False).returncode != 0:
            return None
    subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
    return name


def _find(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return path or missing(f"{program} (Debian and Ubuntu: apt-get install docker.io)")
