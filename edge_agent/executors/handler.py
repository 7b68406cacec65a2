"""A Python function as a kind of task: its params are validated from its signature."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from broker.log import get_logger
from edge_agent.executors.signature import Signature
from edge_agent.executors.thread import in_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

    from broker.messages import Requirement
    from broker.problems import Problem
    from edge_agent.context import TaskContext

log = get_logger(__name__)


class Handler:
    """Runs a function for each task of its name; a plain function runs in a thread.

    Args:
        kind: The name of its tasks.
        function: Its first parameter gets the `TaskContext`, the others the params by name.
        requires: What a worker must have to offer it.
        concurrency: How many may run at one time; None is as many as there are slots.

    Attributes:
        left_behind: How many threads of it go on though their attempts are over.
        on_ended: Called when one of those has ended.

    Raises:
        PluginError: If the function's signature cannot be given params by name.

    """

    def __init__(
        self,
        kind: str,
        function: Callable[..., Any],
        requires: Mapping[str, Requirement] | None = None,
        *,
        concurrency: int | None = None,
    ) -> None:
        self.kind = kind
        self.requires = dict(requires or {})
        self.concurrency = concurrency
        self._function = function
        self._signature = Signature(kind, function)
        self.left_behind = 0
        self.on_ended: Callable[[], None] = lambda: None

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
        """Return what the signature says is wrong."""
        return self._signature.problems(params)

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:  # noqa: ARG002
        """Allow everything: who installs a handler wants it to run."""
        return None

    async def run(self, params: Mapping[str, JsonValue], context: TaskContext) -> Any:  # noqa: ANN401  what the handler returns
        """Call the function with its validated arguments."""
        arguments = self._signature.read(params)
        if inspect.iscoroutinefunction(self._function):
            return await self._function(context, **arguments)
        result = await in_thread(lambda: self._function(context, **arguments), context, self.kind, self._leave)
        return await result if inspect.isawaitable(result) else result  # a plain wrapper of an async function

    async def reattach(
        self,
        params: Mapping[str, JsonValue],
        context: TaskContext,
        handle: JsonValue,
    ) -> None:
        """Take up nothing: a function dies with the agent."""

    def _leave(self, thread: asyncio.Future[Any]) -> None:
        """Count a thread that goes on though its attempt is over, until it ends."""
        self.left_behind += 1
        thread.add_done_callback(self._on_ended)

    def _on_ended(self, thread: asyncio.Future[Any]) -> None:
        self.left_behind -= 1
        failure = thread.exception()
        log.info("handler_ended_at_last", kind=self.kind, error=repr(failure) if failure else None)
        self.on_ended()
