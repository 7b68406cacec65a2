"""A host for services: Debian with a real systemd as its first process, in a container that has no network."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker

from tests.support.base_image import import_base
from tests.support.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.engine import TestEngine

PATIENCE_SECONDS = 60
COMMAND_SECONDS = 300
LOOK_SECONDS = 0.1
"""A shell in the machine looks again this often: systemd tells what comes about to whoever is on its bus, not to us."""

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT = "mount --make-rshared / && exec /lib/systemd/systemd"
"""As on a real host, where systemd does it itself: what it mounts for one service is to be seen by that service."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to: its exit code, and what it wrote to both outputs."""

    code: int
    text: str


class Machine:
    """A host that boots, loses its power, and runs commands as root."""

    def __init__(self, api: docker.APIClient, name: str) -> None:
        self._api = api
        self._pid = 0
        self.name = name

    def boot(self) -> None:
        """Start it; return when systemd has done what boot asks of it."""
        self._api.start(self.name)
        self._pid = self._api.inspect_container(self.name)["State"]["Pid"]
        # A unit that failed makes it `degraded`, which is for a test to find.
        self.until("systemctl is-system-running 2>/dev/null | grep -qE '^(running|degraded)$'")

    def cut_power(self) -> None:
        """End everything at once. What was in memory, as /run, is gone; the disk stays."""
        self._api.kill(self.name)
        self._api.wait(self.name)

    def try_run(self, command: str) -> Answer:
        """Run a shell's command, and return what it came to."""
        # Not by the engine's exec, which now and then loses what a short command has written.
        inside = ["nsenter", "--target", str(self._pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        made = subprocess.run(
            [*inside, "/usr/bin/env", "--ignore-environment", PATH, "LC_ALL=C.UTF-8", "/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Answer(made.returncode, made.stdout.decode(errors="replace"))

    def run(self, command: str) -> str:
        """Run a command that must succeed, and return what it wrote."""
        answer = self.try_run(command)
        assert answer.code == 0, f"{command}: {answer.code}\n{answer.text}\n{self.journal()}"
        return answer.text

    def until(self, command: str) -> None:
        """Wait until a command succeeds."""
        looking = f"until {command}; do sleep {LOOK_SECONDS}; done"
        answer = self.try_run(f"timeout {PATIENCE_SECONDS} sh -c {shlex.quote(looking)}")
        assert answer.code == 0, f"it has not come about: {command}\n{answer.text}\n{self.journal()}"

    def type(self, command: str, *, wheels: str) -> str:
        """Run a command of a guide as it stands, in the checkout, where there are wheels in the place of a network."""
        return self.run(f"cd /src && export HOLDFAST_WHEELS={wheels} && {command}")

    def journal(self, unit: str = "edge-*") -> str:
        """Return the last that our services have logged."""
        return self.try_run(f"journalctl --no-pager --output=cat --lines=400 --unit '{unit}'").text

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run(f"systemctl show --value --property={name} {unit}").strip()

    def set(self, unit: str, **settings: str) -> None:
        """Change a service's settings until `unset`, as `systemctl edit` would. It is for the next start."""
        lines = "".join(f"{name}={value}\\n" for name, value in settings.items())
        folder = f"/etc/systemd/system/{unit}.d"
        self.run(f"mkdir -p {folder} && printf '[Service]\\n{lines}' >{folder}/zz-test.conf && systemctl daemon-reload")

    def unset(self, unit: str) -> None:
        """Take back what was `set`."""
        self.run(f"rm -f /etc/systemd/system/{unit}.d/zz-test.conf && systemctl daemon-reload")

    def ask(self, path: str, *, token: str | None = None) -> Any:  # noqa: ANN401  it is JSON
        """Return what the hub answers; with a token it is asked by HTTPS."""
        return json.loads(self.run(f"{_curl(path, token)}"))

    def submit(self, task: Mapping[str, object], *, token: str | None = None) -> None:
        """Post a task to the hub."""
        self.run(f"{_curl('/api/tasks', token)} --json {shlex.quote(json.dumps(task))}")

    def ended(self, task_id: str, *, token: str | None = None) -> dict[str, Any]:
        """Return a task once it has ended."""
        task: dict[str, Any] = self.ask(f"/api/tasks/{task_id}/wait?timeout={PATIENCE_SECONDS}", token=token)
        return task


def _curl(path: str, token: str | None) -> str:
    asking = "curl --silent --show-error --fail"
    if token is None:
        return f"{asking} 'http://hub.example:8000{path}'"
    authority = "--cacert /etc/holdfast/broker/ca.crt"
    return f"{asking} {authority} --header 'Authorization: Bearer {token}' 'https://hub.example:8000{path}'"


@contextlib.contextmanager
def running_machine(engine: TestEngine, name: str, folders: Mapping[str, Path]) -> Iterator[Machine]:
    """Boot a machine that sees this checkout in /src, and `folders`, by the names that they have there."""
    with contextlib.closing(docker.APIClient(base_url=engine.url, version="1.41", timeout=COMMAND_SECONDS)) as api:
        binds = {str(ROOT): "/src", **{str(path): place for place, path in folders.items()}}
        api.create_container(
            import_base(api),
            ["/bin/sh", "-c", BOOT],
            name=name,
            hostname=name,
            stop_signal="SIGRTMIN+3",
            host_config=api.create_host_config(
                network_mode="none",
                extra_hosts={"hub.example": "127.0.0.1"},
                # Less than `privileged`: to mount, and to look at the processes of others.
                cap_add=["SYS_ADMIN", "SYS_PTRACE"],
                security_opt=["seccomp=unconfined", "apparmor=unconfined"],
                tmpfs={"/run": "", "/run/lock": ""},
                binds=["/sys/fs/cgroup:/sys/fs/cgroup:ro", *(f"{path}:{place}:ro" for path, place in binds.items())],
            ),
        )
        machine = Machine(api, name)
        try:
            machine.boot()
            # Guides say sudo. Whoever runs commands here is root, and a minimal Debian has none.
            machine.run("printf '#!/bin/sh\\nexec \"$@\"\\n' >/usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo")
            yield machine
        finally:
            api.remove_container(name, force=True, v=True)
