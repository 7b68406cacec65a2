"""One container from its creation to its end, whatever the engine does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.log import get_logger
from edge_agent.errors import EngineGone, EngineRefused, TaskFailed, TaskInterrupted
from edge_agent.rules.containers.ends import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_agent.engine.client import Client, Stream
    from edge_agent.engine.engine import Engine
    from edge_agent.engine.sink import Sink

AGAIN_SECONDS = 0.5
"""How long it is waited where the engine answers, and has not done what it was asked for."""

EVENT_SECONDS = 2.0
"""How much later than a container's end its event may come."""

REMOVED = "its container was removed by somebody else"

log = get_logger(__name__)


class Run:
    """Sees a container through.

    Args:
        engine: Where it is.
        name: What it is called.

    Attributes:
        track: What was seen of it; of interest once it has ended.
        lacks_output: Whether it may have written what nobody has.

    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._step: asyncio.Future[Any] | None = None
        self._stream: Stream | None = None
        self._has_all = False
        self._was_cut_off = False
        self.lacks_output = False
        self._is_closed = False
        self.track = engine.track(name)

    async def create(self, config: Mapping[str, Any]) -> None:
        """Create it. Raises `EngineGone`, `EngineRefused`."""
        await self._whole(lambda client: client.create(self._name, config))

    async def look(self) -> State | None:
        """Return its state, as soon as the engine answers; None if there is no such container."""
        while True:
            try:
                shown = await self._engine.call(lambda client: client.inspect(self._name))
            except EngineGone:
                await self._pause()
            else:
                return State.read(shown) if shown is not None else None

    async def see_through(self, sink: Sink, *, is_new: bool) -> State:
        """See it to its end from wherever it is: never started, running, or ended; where `is_new`, it is the first.

        Raises:
            TaskFailed: If it cannot be started.
            TaskInterrupted: If it was removed.

        """
        state = None if is_new else await self._look_again()
        while state is None or not (state.has_ended and self._has_all):
            if state is not None and state.has_begun:
                await self._go_on(sink, state)
            else:
                await self._begin(sink)
            state = await self._look_again()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVENT_SECONDS):
                await self.track.died.wait()
        return state

    async def end(self, grace_seconds: float) -> None:
        """Stop it; return when nothing of it runs any more, or when the agent itself ends."""
        if self._step is not None:  # what is being created or started now would be so after we have looked
            with contextlib.suppress(Exception):
                await self._step
        while not self._engine.is_closed:
            try:
                await self._engine.call(lambda client: client.stop(self._name, grace_seconds))
            except EngineGone:
                await self._pause()
            except EngineRefused as refused:
                log.warning("container_not_stopped", name=self._name, reason=refused.reason)
                await self._pause()
            else:
                return

    def close(self) -> None:
        """Let go of what listens to it."""
        self._is_closed = True
        self._engine.untrack(self._name)
        self._leave_stream()

    # -- steps -------------------------------------------------------------------------------------------------------

    async def _begin(self, sink: Sink) -> None:
        """Start it, and follow it as long as the engine is there."""
        try:
            stream = self._stream = await self._engine.call(lambda client: client.attach(self._name))
            await self._whole(lambda client: client.start(self._name))
        except EngineGone:
            self._leave_stream()
            self._was_cut_off = True
            await self._pause()
        except EngineRefused as refused:
            self._leave_stream()
            if not (await self._look_again()).has_begun:
                raise self._not_started(refused) from refused
        else:
            await self._follow(stream, sink)

    def _not_started(self, refused: EngineRefused) -> TaskFailed | TaskInterrupted:
        """Return what to say: an engine that was killed while it started a container may not be able to do it again."""
        reason = f"the container cannot be started: {refused.reason}"
        return TaskInterrupted(reason) if self._was_cut_off else TaskFailed(reason)

    async def _go_on(self, sink: Sink, state: State) -> None:
        """Follow what was started, from the beginning of its output: of that the sink takes what it has not."""
        if not state.has_ended:
            self._engine.watch(self.track)
        try:
            stream = await self._engine.call(lambda client: client.replay(self._name))
        except EngineGone:
            await self._pause()
        except EngineRefused as refused:
            log.warning("output_not_read", name=self._name, reason=refused.reason)
            # Of one that the engine could not remove to the end, or whose log is damaged, there is no more to come.
            self.lacks_output = self._has_all = state.has_ended
            await self._pause()
        else:
            await self._follow(stream, sink)

    async def _follow(self, stream: Stream, sink: Sink) -> None:
        self._stream = stream
        try:
            await self._engine.call(partial(self._take, stream, sink))
        except EngineGone:
            self._leave_stream()
            # What it wrote with no engine there to read it is lost. One that tells its end has read it to the end.
            self.lacks_output = (await self._look_again()).has_ended and self.track.died_at is None
            await self._pause()
        except EngineRefused as refused:
            self._leave_stream()
            log.warning("container_not_followed", name=self._name, reason=refused.reason)
            await self._pause()
        else:
            self._has_all = True

    def _leave_stream(self) -> None:
        """Close what is not read any more: the container would wait for somebody to read it."""
        if self._stream is not None:
            self._stream.close()

    def _take(self, stream: Stream, sink: Sink, client: Client) -> None:
        """Take all output, and wait for the end: a program may close its output long before that."""
        sink.take(stream)
        if not self._is_closed:
            client.wait(self._name)

    async def _whole(self, work: Callable[[Client], None]) -> None:
        """Do what is not left half done: cancelled, it goes on, and `end` waits for it."""
        step = self._step = asyncio.ensure_future(self._engine.call(work))
        await asyncio.shield(step)

    async def _look_again(self) -> State:
        state = await self.look()
        if state is None:
            raise TaskInterrupted(REMOVED)
        return state

    async def _pause(self) -> None:
        """Wait until it may be asked again."""
        await asyncio.sleep(AGAIN_SECONDS)
        if not self._engine.is_closed:
            await self._engine.there()
