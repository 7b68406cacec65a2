"""`container` `{image, command?, env?, network?, memory_mb?, cpus?, mounts?, pull?, …}`: on a Docker Engine.

What finds the container again is on the disk before there is one. So an agent that dies at any moment takes up what
runs, tells the end of what has ended, and runs what had not begun. The container is removed when its end is committed.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.clock import new_id, now_ms
from broker.log import get_logger
from broker.messages import Message
from edge_agent.engine.run import Run
from edge_agent.engine.sink import Sink
from edge_agent.engine.threads import in_thread
from edge_agent.errors import CannotRunHere, EngineGone, EngineRefused, NotAllowedHere, TaskFailed, TaskInterrupted
from edge_agent.executors.base import BuiltIn
from edge_agent.rules.attempts import Ref
from edge_agent.rules.containers.config import config
from edge_agent.rules.containers.ends import end_of
from edge_agent.rules.containers.images import Image
from edge_agent.rules.containers.params import ContainerParams
from edge_agent.rules.containers.pulling import Pulling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pydantic import JsonValue

    from broker.messages import Requirement, Scalar
    from edge_agent.context import TaskContext
    from edge_agent.engine import Engine
    from edge_agent.engine.client import Client
    from edge_agent.engine.owned import Owned
    from edge_agent.rules.containers.ends import State
    from edge_agent.rules.containers.policy import Policy

SLUG_LENGTH = 40
MARK_LENGTH = 8

log = get_logger(__name__)


class Handle(Message):
    """What finds a container again.

    Attributes:
        name: What it is called,
        created: and whether it is there for certain. If it is not there then, somebody has removed it.

    """

    name: str
    created: bool = False

    @classmethod
    def new(cls, worker: str, context: TaskContext) -> Handle:
        """Return the handle of a container that is about to be made; nothing else ever has its name."""
        slug = re.sub(r"[^A-Za-z0-9_.-]", "-", context.task_id)[:SLUG_LENGTH]
        return cls(name=f"holdfast-{worker}-{slug}-{context.attempt}-{new_id()[:MARK_LENGTH]}")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one attempt has at hand."""

    params: ContainerParams
    context: TaskContext
    handle: Handle
    run: Run
    sink: Sink

    @property
    def ref(self) -> Ref:
        return _ref(self.context)


class Container(BuiltIn[ContainerParams]):
    """Runs containers that the policy allows.

    Args:
        engine: Where they run.
        policy: What they may have.
        capabilities: What the worker has now.
        owned: Marks, keeps and removes them.

    """

    kind = "container"
    model = ContainerParams
    requires: Mapping[str, Requirement] = {"docker": True}

    def __init__(
        self, engine: Engine, policy: Policy, *, capabilities: Callable[[], Mapping[str, Scalar]], owned: Owned
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._capabilities = capabilities
        self._owned = owned

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:
        """Refuse what the policy does not allow."""
        return self._policy.refusal(self.model.model_validate(params), self._capabilities())

    async def execute(self, params: ContainerParams, context: TaskContext) -> JsonValue:
        """Run it to its end and return `{exit_code, output, truncated}`."""
        return await self._carry_out(self._attempt(params, context, Handle.new(self._owned.worker, context)))

    async def reattach(
        self, params: Mapping[str, JsonValue], context: TaskContext, handle: JsonValue
    ) -> Awaitable[Any] | None:
        """Take it up: what runs goes on, what has ended is told, what was not begun is begun."""
        kept = Handle.model_validate(handle)
        self._owned.add(_ref(context), kept.name)  # at once: the engine's watch removes what nobody has
        attempt = self._attempt(self.model.model_validate(params), context, kept, await context.logged())
        if not kept.created:  # so it was never started, and need not wait for an engine to say so
            return self._carry_out(attempt)
        context.outlives_agent = True
        run = attempt.run
        state = await run.look()
        if state is None:
            log.warning("container_gone", task=context.task_id, name=kept.name)
            run.close()
            return None
        if not state.has_begun:
            return self._carry_out(attempt)
        log.info("container_taken_up", task=context.task_id, name=kept.name, status=state.status)
        if state.has_ended:
            run.track.was_watched = False
        context.has_run_seconds = max(0.0, (now_ms() - (state.began_at or 0)) / 1000)
        return self._see_through(attempt, lambda: run.see_through(attempt.sink, is_new=False))

    def _attempt(self, params: ContainerParams, context: TaskContext, handle: Handle, logged: int = 0) -> _Attempt:
        self._owned.add(_ref(context), handle.name)
        return _Attempt(params, context, handle, Run(self._engine, handle.name), Sink(context, logged))

    async def _carry_out(self, attempt: _Attempt) -> JsonValue:
        return await self._see_through(attempt, partial(self._create_and_begin, attempt))

    async def _create_and_begin(self, attempt: _Attempt) -> State:
        params, context, handle = attempt.params, attempt.context, attempt.handle
        # Before there is a container: one that nobody knows of would be lost. If there is an old one, it goes.
        await context.keep(_plain(handle.model_copy(update={"created": False})))
        context.outlives_agent = True  # what is left alone from here on, the next agent begins or takes up
        reason = self._policy.refusal(params, self._capabilities())  # another run of the agent may have let it in
        if reason:
            raise NotAllowedHere(reason)
        sources = await self._sources(params)
        image = Image.parse(params.image)
        try:
            await self._see_that_image_is_there(image, params.pull, context)
            await attempt.run.create(config(params, image, sources, self._owned.labels_of(attempt.ref)))
        except EngineGone as gone:
            self._owned.forget(attempt.ref)
            raise CannotRunHere(str(gone)) from gone
        except EngineRefused as refused:
            raise TaskFailed(f"the container cannot be created: {refused.reason}") from refused
        await context.keep(_plain(handle.model_copy(update={"created": True})))
        return await attempt.run.see_through(attempt.sink, is_new=True)

    async def _see_through(self, attempt: _Attempt, work: Callable[[], Awaitable[State]]) -> JsonValue:
        attempt.context.result_so_far = partial(attempt.sink.result, None)
        try:
            state = await work()
        except asyncio.CancelledError:
            if not attempt.context.is_left:
                await attempt.run.end(attempt.params.stop_seconds)
            raise
        finally:
            attempt.run.close()
        return _told(attempt, state)

    # -- before it is created ----------------------------------------------------------------------------------------

    async def _sources(self, params: ContainerParams) -> dict[str, str]:
        """Return where each path of the host leads. Raises `NotAllowedHere` where that is not allowed, or not known."""
        paths = [mount.source for mount in params.mounts if mount.source]
        if not paths:
            return {}
        found = await in_thread(lambda: {path: _resolve(path) for path in paths}, "resolve")
        for mount in params.mounts:
            reason = self._policy.refusal_of_source(mount, found.get(mount.source or "", ""))
            if reason:
                raise NotAllowedHere(reason)
        return found

    async def _see_that_image_is_there(self, image: Image, pull: str, context: TaskContext) -> None:
        if pull != "always" and await self._engine.call(lambda client: client.has_image(image)):
            return
        if pull == "never":
            raise TaskFailed(f"the image {str(image)!r} is not here, and pull is 'never'")
        try:
            await self._engine.call(partial(_pull, image, context))
        except EngineRefused as refused:
            raise TaskFailed(f"the image {str(image)!r} cannot be pulled: {refused.reason}") from refused


def _told(attempt: _Attempt, state: State) -> JsonValue:
    """Return the result. Raises `TaskFailed`, `TaskInterrupted`."""
    track = attempt.run.track
    end = end_of(
        state,
        memory_mb=attempt.params.memory_mb,
        was_killed=track.was_killed,
        was_watched=track.was_watched,
    )
    result = attempt.sink.result(state.exit_code, is_whole=not attempt.run.lacks_output)
    match end.outcome:
        case "failed":
            raise TaskFailed(end.error, result)
        case "interrupted":
            raise TaskInterrupted(end.error, result)
    return result


def _pull(image: Image, context: TaskContext, client: Client) -> None:
    pulling = Pulling()
    for told in client.pull(image):
        if context.cancelled:
            return
        news = pulling.hear(told, time.monotonic())
        if news is not None:
            fraction, words = news
            _ = context.progress(fraction, f"pulling {image}: {words}")


def _resolve(path: str) -> str:
    """Follow links to the end: where one hides from the agent, the engine would follow it as root."""
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        reason = f"the agent cannot see where the source {path!r} of a mount leads: {error.strerror}"
        raise NotAllowedHere(reason) from error


def _ref(context: TaskContext) -> Ref:
    return Ref(context.task_id, context.attempt)


def _plain(handle: Handle) -> JsonValue:
    plain: JsonValue = handle.model_dump()
    return plain
