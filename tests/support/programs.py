"""Real programs for system tests: a hub and agents as processes, whose logs are read as they come."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from broker.clock import new_id
from broker.local import PrivateBroker, find_client
from broker.topics import SiteTasks, Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 40.0
END_OF_LOG = "(the log ends here)"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without settings of ours, and with `settings`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HUB_", "WORKER_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), **settings}


class Program:
    """A process, and every line that it has logged."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.lines: list[str] = []
        self._process = process
        self._more = asyncio.Condition()
        self._reader = asyncio.create_task(self._read(), name=f"log of {name}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def logged(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Return the first line, from number `after` on, that `pattern` is found in; wait for it if it has not come."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._more:
                return await self._find(re.compile(pattern), after)
        except TimeoutError:
            raise AssertionError(self._missed(pattern)) from None

    async def _find(self, sought: re.Pattern[str], seen: int) -> re.Match[str]:
        while True:
            for line in self.lines[seen:]:
                if found := sought.search(line):
                    return found
            seen = len(self.lines)
            if self.lines[-1:] == [END_OF_LOG]:
                raise AssertionError(self._missed(sought.pattern))
            await self._more.wait()

    def _missed(self, pattern: str) -> str:
        return f"{self.name} has not said {pattern!r}:\n" + "\n".join(self.lines[-40:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await self._process.wait()
            await asyncio.wait([self._reader])
        return code

    async def stop(self) -> int:
        """End it in order, and return the exit code."""
        if self._process.returncode is None:
            self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
        await self.ended()

    async def _read(self) -> None:
        if self._process.stderr is None:
            return
        async for line in self._process.stderr:
            await self._add(_COLOURS.sub("", line.decode().rstrip()))
        await self._add(END_OF_LOG)

    async def _add(self, line: str) -> None:
        async with self._more:
            self.lines.append(line)
            self._more.notify_all()


class House:
    """A broker, and whatever hub and agents a test starts; all of it ends with the test."""

    def __init__(self, folder: Path, broker: PrivateBroker, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.broker = broker
        self._stack = stack

    async def hub(self, **settings: str) -> Hub:
        """Start a hub on the house's one database; return once it listens and is connected."""
        defaults = {
            "HUB_BROKER_URL": self.broker.url,
            "HUB_HTTP_PORT": "0",
            "HUB_DATABASE_URL": f"sqlite:///{self.folder / 'hub.db'}",
            "HUB_LOG_LEVEL": "debug",
        }
        program = await self._start("hub", ["-m", "hub", "serve"], {**defaults, **settings})
        url = (await program.logged(r"hub_ready.*?url=(\S+)"))[1]
        await program.logged("broker_connected")
        http = await self._stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS))
        return Hub(program, http)

    async def agent(self, name: str, site: str, **settings: str) -> Program:
        """Start an agent; return once it is online."""
        program = await self.agent_process(name, site, **settings)
        await program.logged(r"\bonline\b")
        return program

    async def agent_process(self, name: str, site: str, **settings: str) -> Program:
        """Start an agent, and return at once."""
        defaults = {
            "WORKER_ID": name,
            "WORKER_SITE": site,
            "WORKER_BROKER_URL": self.broker.url,
            "WORKER_OFFLINE_DIR": str(self.folder / name),
            "WORKER_HEARTBEAT_INTERVAL_SECONDS": "1",
            "WORKER_LOG_LEVEL": "debug",
        }
        given = {key: value for key, value in {**defaults, **settings}.items() if value}
        return await self._start(name, ["-m", "edge_agent", "run"], given)

    async def inject(self, site: str, *payloads: str | bytes) -> None:
        """Publish each payload on a site's tasks topic, one mosquitto_pub after the other."""
        for payload in payloads:
            await self.publish(Topics().build(SiteTasks(site)), payload)

    async def inject_lines(self, site: str, payloads: list[str]) -> None:
        """Publish payloads of one line each, by one mosquitto_pub."""
        await self.publish_lines(Topics().build(SiteTasks(site)), payloads)

    async def publish_lines(self, topic: str, payloads: list[str]) -> None:
        """Publish payloads of one line each, by one mosquitto_pub."""
        await self._publish(topic, "\n".join(payloads).encode(), "-l")

    async def ask(self, topic: str, payload: str) -> dict[str, object]:
        """Publish one message with mosquitto_rr, and return what is answered."""
        command = [find_client("mosquitto_rr"), "-V", "5", "-p", str(self.broker.port), "-q", "1", "-W", "20"]
        command += ["-t", topic, "-e", f"edge/v1/replies/{new_id()}", "-m", payload]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        answer, _ = await process.communicate()
        found: dict[str, object] = json.loads(answer)
        return found

    async def publish(self, topic: str, payload: str | bytes) -> None:
        """Publish one message with mosquitto_pub."""
        await self._publish(topic, payload.encode() if isinstance(payload, str) else payload, "-s")

    async def _publish(self, topic: str, data: bytes, how: str) -> None:
        command = [find_client("mosquitto_pub"), "-p", str(self.broker.port), "-q", "1", "-t", topic, how]
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
        await process.communicate(data)
        assert process.returncode == 0

    async def _start(self, name: str, arguments: list[str], settings: Mapping[str, str]) -> Program:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=clean_environment(settings),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        program = Program(name, process)
        self._stack.push_async_callback(program.kill)
        return program


class Hub:
    """A hub that runs, and its API."""

    def __init__(self, program: Program, http: httpx.AsyncClient) -> None:
        self.program = program
        self.http = http

    async def task(self, task_id: str) -> dict[str, object]:
        """Return a task once it has ended. One that the hub has not heard of fails."""
        answer = await self.http.get(f"/api/tasks/{task_id}/wait", params={"timeout": PATIENCE_SECONDS})
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    async def post(self, task: Mapping[str, object]) -> dict[str, object]:
        """Submit a task."""
        answer = await self.http.post("/api/tasks", json=task)
        answer.raise_for_status()
        taken: dict[str, object] = answer.json()
        return taken

    async def items(self, path: str, **query: str) -> list[dict[str, object]]:
        """Return a list's items."""
        answer = await self.http.get(path, params=query)
        answer.raise_for_status()
        found: list[dict[str, object]] = answer.json()["items"]
        return found


@asynccontextmanager
async def make_house(folder: Path) -> AsyncIterator[House]:
    """Hold a house in `folder`."""
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(PrivateBroker(persistent=True, directory=folder))
        yield House(folder, broker, stack)
