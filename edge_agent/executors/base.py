"""What every kind of task offers, and what an attempt has at hand while it runs."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from broker.messages import Message
from broker.problems import explain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from pydantic import JsonValue

    from broker.messages import Requirement
    from broker.problems import Problem
    from edge_agent.context import TaskContext

PARAMS = "params"


class Params(Message):
    """The base of every kind's params: strict, as all that comes from outside."""


class Executor(Protocol):
    """One kind of task."""

    kind: str

    @property
    def requires(self) -> Mapping[str, Requirement]:
        """What the worker must have to offer it, as a task's `requires`."""

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
        """Return what is wrong with a task's params."""

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:
        """Return why the policy of this worker forbids a task, if it does."""

    async def run(self, params: Mapping[str, JsonValue], context: TaskContext) -> Any:  # noqa: ANN401  a handler's result
        """Do it and return the result. Cancelled, it must leave nothing running.

        Raises:
            TaskFailed: If it failed in a way that has a result.
            TaskInterrupted: If something else than the task put an end to it.
            CannotRunHere: If it cannot be begun here now, and nothing of it has.
            Exception: Whatever else it raises is a failure too.

        """

    async def reattach(
        self, params: Mapping[str, JsonValue], context: TaskContext, handle: JsonValue
    ) -> Awaitable[Any] | None:
        """Take up what `run` had begun when the agent died.

        Only attempts of which `run` has kept a handle (`context.keep`) are asked for.

        Returns:
            What goes on with it, with a result or an error as of `run`; or None, if it cannot be taken up. Then
            nothing of it runs any more.

        """


ParamsType = TypeVar("ParamsType", bound=BaseModel)


class BuiltIn(Generic[ParamsType]):
    """A kind whose params are a model: subclasses give `kind` and `model`, and override `execute`."""

    kind: str
    model: type[ParamsType]
    requires: Mapping[str, Requirement] = MappingProxyType({})

    def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
        """Return what the model says is wrong."""
        try:
            self.model.model_validate(params)
        except ValidationError as error:
            return explain(error, root=PARAMS, prefix=(PARAMS,), given=params)
        return []

    def refusal(self, params: Mapping[str, JsonValue]) -> str | None:  # noqa: ARG002  for kinds with a policy
        """Allow everything."""
        return None

    async def run(self, params: Mapping[str, JsonValue], context: TaskContext) -> JsonValue:
        """Read the params and do the work."""
        return await self.execute(self.model.model_validate(params), context)

    async def reattach(
        self,
        params: Mapping[str, JsonValue],  # noqa: ARG002  for kinds whose work outlives the agent
        context: TaskContext,  # noqa: ARG002
        handle: JsonValue,  # noqa: ARG002
    ) -> Awaitable[Any] | None:
        """Take up nothing: it died with the agent."""
        return None

    async def execute(self, params: ParamsType, context: TaskContext) -> JsonValue:
        """Do the work."""
        raise NotImplementedError
