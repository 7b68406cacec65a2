"""A host for compose files: a Docker Engine with networks, in a network namespace of its own, and our images on it.

In the namespace port 8000 of 127.0.0.1 is free whatever runs beside the test, so that commands are run as a guide has
them; the engine sets its packet filter and its bridges there, and both vanish with it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.base_image import BASE_IMAGE, import_base
from tests.support.engine import TestEngine, _leave_nothing, busybox_tar
from tests.support.needs import missing
from tests.support.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BUSYBOX_IMAGE = "busybox:1"
"""The image that our compose files allow. This one is ours, and has nothing but busybox."""

AGAIN = "again"
"""The tag of what was built a second time, from nothing."""

CONTEXT = ("LICENSE", "README.md", "constraints.txt", "pyproject.toml", ".dockerignore")
CONTEXT_FOLDERS = ("broker", "edge_agent", "hub", "config", "deploy")
SERVICES = ("broker", "hub", "worker-site-a", "worker-site-b", "worker-site-c")
NONE: Mapping[str, str] = {}
PATIENCE_SECONDS = 60.0
BUILD_SECONDS = 500.0
LOOK_SECONDS = 0.1
"""Compose and curl tell nobody what is to come, so it is looked for."""

_namespaces = itertools.count(1)


class NetworkedEngine(TestEngine):
    """An engine that builds in the host's own namespace, and then runs containers with networks in another."""

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__(folder, bridge=None)
        self._inside = ["nsenter", f"--net=/run/netns/{namespace}", "--"]

    def enter(self) -> None:
        """Start again within the namespace, where nothing but its own containers is reached."""
        self.stop()
        self.prefix = self._inside
        self.start()

    def options(self) -> dict[str, str]:
        """Return what it is started with: within the namespace with networks, and the packet filter that they need."""
        if not self.prefix:
            return super().options()
        ours = ("host", "data-root", "exec-root", "pidfile")
        return {name: value for name, value in super().options().items() if name in ours}


class ComposeHost:
    """A host with the engine, and a copy of the clone in which commands are run.

    Attributes:
        clone: The copy.
        deploy: Its folder `deploy`.
        hub: Where the hub answers.
        options: What curl needs to ask it, as words of a shell.

    """

    def __init__(self, engine: NetworkedEngine, clone: Path, namespace: str) -> None:
        self.engine = engine
        self.clone = clone
        self.deploy = clone / "deploy"
        self.hub = "http://localhost:8000"
        self.options = ""
        self._inside = ["nsenter", f"--net=/run/netns/{namespace}", "--"]

    def run(self, script: str, settings: Mapping[str, str] = NONE, *, timeout: float = PATIENCE_SECONDS) -> str:
        """Run a script in the folder `deploy`, and return what it has written to standard output."""
        done = self.attempt(script, settings, timeout=timeout)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def attempt(
        self, script: str, settings: Mapping[str, str] = NONE, *, timeout: float = PATIENCE_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in the folder `deploy`, which may fail."""
        return subprocess.run(
            [*self._inside, "bash", "-euo", "pipefail", "-c", script],
            cwd=self.deploy,
            env=self._environment(settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def type(self, script: str) -> str:
        """Run a script as if somebody had typed it, with a terminal, and return what that showed."""
        return self.run(f"script --quiet --return --command {shlex.quote(script)} /dev/null", {"SHELL": "/bin/bash"})

    def follow(self, script: str, sought: str) -> str:
        """Run a script that does not end until it has written a line with `sought`; return that line."""
        command = [*self._inside, "bash", "-c", script]
        process = subprocess.Popen(
            command,
            cwd=self.deploy,
            env=self._environment(NONE),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout
            return next(line for line in process.stdout if sought in line)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def api(self, path: str, *options: str) -> Any:  # noqa: ANN401  any JSON
        """Ask the hub as a person would, with curl."""
        words = f"{self.options} {shlex.join(options)}"
        return json.loads(self.run(f"curl --silent --show-error {words} '{self.hub}{path}'"))

    def submit(self, *tasks: Mapping[str, object]) -> list[str]:
        """Submit tasks, and return their ids."""
        taken = self.api("/api/tasks/batch", "-H", "content-type: application/json", "-d", json.dumps(tasks))
        assert "items" in taken, taken
        return [one["id"] for one in taken["items"]]

    def ended(self, task: str) -> dict[str, Any]:
        """Return a task once it has ended."""
        found: dict[str, Any] = self.api(f"/api/tasks/{task}/wait?timeout={PATIENCE_SECONDS - 5}")
        return found

    def until(self, look: Callable[[], object], why: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until `look` finds something."""
        deadline = time.monotonic() + patience_seconds
        while not look():
            assert time.monotonic() < deadline, f"{why}\n{self._logs()}"
            time.sleep(LOOK_SECONDS)

    def online(self) -> dict[str, str]:
        """Return the site of each worker that is online; none while the hub does not answer."""
        curl = f"curl --silent --fail --max-time 5 {self.options}"
        found = self.attempt(f"{curl} '{self.hub}/api/workers?state=online'")
        return {one["id"]: one["site"] for one in json.loads(found.stdout)["items"]} if found.returncode == 0 else {}

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine says of a service's container."""
        with contextlib.closing(self.engine.api()) as api:
            (one,) = api.containers(all=True, filters={"label": f"com.docker.compose.service={service}"})
            found: dict[str, Any] = api.inspect_container(one["Id"])
            return found

    def crash(self, service: str) -> None:
        """End a service's container at once, from outside, as the kernel does when memory is short."""
        os.kill(self.container(service)["State"]["Pid"], signal.SIGKILL)

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        return {
            **kept,
            "DOCKER_HOST": self.engine.url,
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_HTTP_TIMEOUT": str(int(BUILD_SECONDS)),
            "HOLDFAST_BASE": BASE_IMAGE,
            "HOLDFAST_DOCKER_SOCKET": self.engine.url.removeprefix("unix://"),
            **settings,
        }

    def _logs(self) -> str:
        return self.attempt("docker-compose ps; docker-compose logs --no-color --tail 30").stdout


@contextlib.contextmanager
def compose_host() -> Iterator[ComposeHost]:
    """Run a host with all images until the block is left."""
    for program in ("docker-compose", "nsenter", "ip", "iptables"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            missing(f"{program} (Debian and Ubuntu: apt-get install docker-compose util-linux iproute2 iptables)")
    if os.geteuid() != 0:
        missing("root, to start a dockerd")
    namespace = f"hf{os.getpid()}-{next(_namespaces)}"
    folder = Path(tempfile.mkdtemp(prefix="hf-", dir="/tmp"))  # a socket's path has to be short
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    engine = NetworkedEngine(folder, namespace)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        host = ComposeHost(engine, _copy_of_the_clone(folder), namespace)
        engine.start()
        _build(host)
        engine.enter()
        yield host
    finally:
        if engine._process is not None:  # noqa: SLF001
            engine.clear()
            engine.stop()
        _leave_nothing(folder)
        subprocess.run(["ip", "netns", "delete", namespace], check=False)


def _copy_of_the_clone(folder: Path) -> Path:
    clone = folder / "holdfast"
    clone.mkdir()
    for name in CONTEXT:
        shutil.copy(ROOT / name, clone / name)
    for name in CONTEXT_FOLDERS:
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    return clone


def _build(host: ComposeHost) -> None:
    """Build all images with compose, two of them twice, with the network that reaches the registries."""
    with contextlib.closing(host.engine.api()) as api:
        import_base(api)
        other = import_base(api, f"{BASE_IMAGE}-{AGAIN}")  # the same tree, of which no layer is known yet
        repository, _, tag = BUSYBOX_IMAGE.partition(":")
        api.import_image_from_data(busybox_tar(), repository=repository, tag=tag)
    network = {"services": {name: {"build": {"network": "host"}} for name in ("broker", "hub", "worker-site-a")}}
    (host.clone / "build.yml").write_text(json.dumps(network))  # which is YAML too
    build = "docker-compose -f worker-compose.yml -f ../build.yml build"
    host.run(f"{build} broker hub worker-site-a", timeout=BUILD_SECONDS)
    host.run(f"{build} hub worker-site-a", {"HOLDFAST_VERSION": AGAIN, "HOLDFAST_BASE": other}, timeout=BUILD_SECONDS)
