"""`noop`: returns its params."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from broker.messages import Requirement
    from broker.problems import Problem
    from edge_agent.context import TaskContext


class Noop:
    """Does nothing: to try the way, and to measure it."""

    kind = "noop"
    requires: Mapping[str, Requirement] = MappingProxyType({})

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:  # noqa: ARG002
        """Take any params."""
        return []

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:  # noqa: ARG002
        """Allow everything."""
        return None

    async def run(self, params: Mapping[str, JsonValue], context: TaskContext) -> JsonValue:  # noqa: ARG002
        """Return `params`."""
        return dict(params)

    async def reattach(
        self,
        params: Mapping[str, JsonValue],
        context: TaskContext,
        handle: JsonValue,
    ) -> None:
        """Take up nothing: it is over as soon as it has begun."""
