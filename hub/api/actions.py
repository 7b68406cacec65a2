"""`POST /api/tasks/{id}/cancel|retry|resolve`: what people may do to a task."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field, ValidationError
from starlette.routing import Route

from broker.errors import InvalidInput
from broker.messages import MAX_MESSAGE_BYTES, Json, Message
from broker.problems import explain
from hub.api.answers import JSON, body_of
from hub.api.context import context_of
from hub.api.guard import caller_of
from hub.api.tasks import in_full
from hub.rules.actions import Cancel, Resolve, Retry
from hub.rules.task import TaskState

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from hub.rules.actions import Action

Said = Annotated[str, Field(min_length=1, max_length=4096)]


class CancelBody(Message):
    """What `cancel` takes."""

    reason: Said | None = None

    def action(self) -> Action:
        """Return what is asked for."""
        return Cancel(self.reason)


class RetryBody(Message):
    """What `retry` takes."""

    reason: Said | None = None

    def action(self) -> Action:
        """Return what is asked for."""
        return Retry(self.reason)


class ResolveBody(Message):
    """What `resolve` takes: what became of the task, and how that is known."""

    outcome: Literal["succeeded", "failed", "cancelled"]
    result: Json = None
    error: Said | None = None
    note: Said | None = None

    def action(self) -> Action:
        """Return what is asked for."""
        return Resolve(TaskState(self.outcome), self.result, self.error, self.note)


Body = TypeVar("Body", CancelBody, RetryBody, ResolveBody)


async def _act(request: Request, kind: type[Body]) -> Response:
    context, task_id = context_of(request), request.path_params["id"]
    text = await body_of(request, MAX_MESSAGE_BYTES)
    try:
        body = kind.model_validate_json(text.strip() or b"{}")
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None
    await context.actions.do(task_id, body.action(), caller_of(request))
    return JSON(await in_full(context, task_id))


def _route(verb: str, kind: type[Body]) -> Route:
    return Route(f"/api/tasks/{{id}}/{verb}", partial(_act, kind=kind), methods=["POST"])


routes = [_route("cancel", CancelBody), _route("retry", RetryBody), _route("resolve", ResolveBody)]
