"""The watch over a Docker Engine: whether it answers, and what it does to the containers of this worker.

Its stream of events is the watch: when that ends, the engine has gone. One that hangs is found by asking now and then.
While it is away it is tried again, with backoff. Only an engine that answers costs the memory of the docker package.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from broker.backoff import delay_seconds
from broker.log import get_logger
from edge_agent.engine.connecting import connect
from edge_agent.engine.threads import in_thread
from edge_agent.engine.track import Track
from edge_agent.errors import EngineGone, EngineRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from edge_agent.engine.client import Client, Stream

PROBE_INTERVAL_SECONDS = 10.0
RETRY_CAP_SECONDS = 3.0
FIRST_LOOK_SECONDS = 2.0
"""How long an agent that starts waits for an engine before it says hello without it."""

SERVER_ERROR = 500
STOPS = "the agent stops"

log = get_logger(__name__)

Result = TypeVar("Result")


class _Connection:
    """An engine that answers, until `lose`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def lose(self, reason: str) -> None:
        """Let everybody know that it does not answer any more."""
        if not self.lost.done():
            self.lost.set_result(reason)


class Engine:
    """An engine that comes and goes.

    Args:
        url: Where it is; None for what DOCKER_HOST says, or the usual socket.

    Attributes:
        labels: What all containers of this worker have: nobody else's are looked at.
        on_return: Called each time that it answers again, before anybody else learns of it.
        on_change: Told whether it answers, and why it does not.

    """

    def __init__(self, url: str | None, *, probe_interval: float = PROBE_INTERVAL_SECONDS) -> None:
        self._url = url
        self._probe_interval = probe_interval
        self._connection: _Connection | None = None
        self._tracks: dict[str, Track] = {}
        self._there = asyncio.Event()
        self._looked = asyncio.Event()
        self.reason = "it has not answered yet"
        self.is_closed = False
        self.labels: Callable[[], Mapping[str, str]] = dict
        self.on_return: Callable[[], Awaitable[None]] | None = None
        self.on_change: Callable[[bool, str], None] = lambda _there, _reason: None

    async def looked(self) -> None:
        """Wait until it is known whether an engine is there; not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self._looked.wait()
        if not self._looked.is_set():
            self._on_silence(self.reason)

    async def there(self) -> None:
        """Wait until the engine answers."""
        await self._there.wait()

    async def run(self) -> None:
        """Watch it, until cancelled."""
        self.is_closed = False
        failures = 0
        try:
            while True:
                try:
                    client = await in_thread(partial(connect, self._url), "engine-connect")
                except (EngineGone, EngineRefused) as error:
                    self._on_silence(error.reason)
                    failures += 1
                    await asyncio.sleep(delay_seconds(failures, random.random(), cap=RETRY_CAP_SECONDS))  # noqa: S311
                else:
                    failures = 0
                    await self._serve(_Connection(client))
        finally:
            self.is_closed = True
            self.reason = STOPS
            self._there.clear()

    async def call(self, work: Callable[[Client], Result]) -> Result:
        """Do `work` with the engine's client in a thread.

        Cancelled, it leaves the thread to itself: whether its work is done is open.

        Raises:
            EngineGone: If the engine does not answer, or stops to do so meanwhile.
            EngineRefused: If it does not do it.

        """
        if self._connection is None:
            await self.looked()  # an agent that starts may have work at once
        connection = self._connection
        if connection is None:
            raise EngineGone(self.reason)
        done = in_thread(partial(work, connection.client), "engine-call")
        either: list[asyncio.Future[Any]] = [done, connection.lost]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise EngineGone(connection.lost.result())
        try:
            return done.result()
        except EngineGone:
            await self._probe(connection)
            raise
        except EngineRefused as refused:
            # An engine that goes down fails at this and that before it does not answer at all.
            if refused.status >= SERVER_ERROR and not await self._probe(connection):
                raise EngineGone(refused.reason) from refused
            raise

    def track(self, name: str) -> Track:
        """Note from now on what happens to a container."""
        track = self._tracks[name] = Track(was_watched=self._connection is not None)
        return track

    def watch(self, track: Track) -> None:
        """Watch it from now on: it runs, whatever was missed of it before."""
        track.was_watched = self._connection is not None
        track.died.clear()

    def untrack(self, name: str) -> None:
        """Note it no more."""
        self._tracks.pop(name, None)

    # -- one connection ----------------------------------------------------------------------------------------------

    async def _serve(self, connection: _Connection) -> None:
        try:
            stream = await in_thread(lambda: connection.client.events(self.labels()), "engine-events")
        except (EngineGone, EngineRefused) as error:
            self._on_silence(error.reason)
            await asyncio.sleep(RETRY_CAP_SECONDS)
            return
        self._listen(stream, connection)
        try:
            self._connection = connection
            if self.on_return:
                await self.on_return()
            self._on_answer()
            while not connection.lost.done():
                await asyncio.wait([connection.lost], timeout=self._probe_interval)
                await self._probe(connection)
        finally:
            self._connection = None
            connection.client.close()
            if connection.lost.done():
                self._on_silence(connection.lost.result())
            else:
                connection.lose(STOPS)
                stream.close()

    async def _probe(self, connection: _Connection) -> bool:
        """Ask whether the engine is there, unless that is known; if not, the connection is lost."""
        if connection.lost.done():
            return False
        try:
            await in_thread(connection.client.probe, "engine-probe")
        except EngineGone as gone:
            connection.lose(gone.reason)
            return False
        except EngineRefused:
            return True
        return True

    def _listen(self, stream: Stream, connection: _Connection) -> None:
        """Hear its events in a thread, to the end: an engine that stops still tells whom it kills."""
        loop = asyncio.get_running_loop()

        def listen() -> None:
            reason = "its events have ended"
            try:
                for event in stream:
                    loop.call_soon_threadsafe(self._on_event, event)
            except (EngineGone, EngineRefused) as error:
                reason = error.reason
            finally:  # whatever it was: nobody hears them any more
                loop.call_soon_threadsafe(connection.lose, reason)

        def run() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the agent has ended
                listen()

        threading.Thread(target=run, name="engine-events", daemon=True).start()

    def _on_event(self, event: Mapping[str, Any]) -> None:
        track = self._tracks.get(event["Actor"]["Attributes"].get("name", ""))
        if track is not None:
            track.hear(event)

    def _on_answer(self) -> None:
        log.info("engine_answers")
        self._there.set()
        self._looked.set()
        self.on_change(True, "")  # noqa: FBT003  what it is told is just that

    def _on_silence(self, reason: str) -> None:
        if self._there.is_set() or not self._looked.is_set():
            log.warning("engine_silent", reason=reason)
        self.reason = reason
        self._there.clear()
        self._looked.set()
        for track in self._tracks.values():
            track.was_watched = False
            track.died.set()
        self.on_change(False, f"the Docker Engine does not answer: {reason}")  # noqa: FBT003
