"""`sleep` `{seconds}`: takes its time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic import Field

from broker.messages import MAX_TIMEOUT_SECONDS
from edge_agent.executors.base import BuiltIn, Params

if TYPE_CHECKING:
    from pydantic import JsonValue

    from edge_agent.context import TaskContext


class SleepParams(Params):
    """How long."""

    seconds: float = Field(ge=0, le=MAX_TIMEOUT_SECONDS)


class Sleep(BuiltIn[SleepParams]):
    """Holds a slot for a time."""

    kind = "sleep"
    model = SleepParams

    async def execute(self, params: SleepParams, context: TaskContext) -> JsonValue:  # noqa: ARG002
        """Wait, and return for how long."""
        await asyncio.sleep(params.seconds)
        return {"seconds": params.seconds}
