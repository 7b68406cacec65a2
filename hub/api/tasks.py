"""`/api/tasks`: post one or many, list, look at one, wait for its end."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field
from starlette.routing import Route

from broker.errors import InvalidInput
from broker.messages import MAX_MESSAGE_BYTES, TaskSubmission
from broker.problems import Problem
from broker.reading import Refused, read_submission_lines, read_submissions
from hub.api.answers import JSON, Paged, Query, body_of, listed, model_of, query_of
from hub.api.context import context_of
from hub.api.explained import explained
from hub.api.guard import caller_of
from hub.api.shapes import task_in_full, task_shape
from hub.errors import ClashingId, NotFound
from hub.rules.task import ENDED, TaskState
from hub.store import queries
from hub.store.parents import children_by_worker

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from hub.api.context import Context
    from hub.store.queries import InFull
    from hub.store.tasks import Submitted

MAX_BATCH_BYTES = 32 * 1024 * 1024
MAX_WAIT_SECONDS = 300.0


class TaskQuery(Paged):
    """What `GET /api/tasks` takes."""

    site: str | None = None
    worker: str | None = None
    state: TaskState | None = None
    kind: str | None = None
    since: AwareDatetime | None = None
    parent: str | None = None


class OneTaskQuery(Query):
    """What `GET /api/tasks/{id}` takes."""

    explain: bool = True


class WaitQuery(Query):
    """What `GET /api/tasks/{id}/wait` takes."""

    timeout: float = Field(default=30.0, ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)


async def post_task(request: Request) -> Response:
    """Take one task in; answer after the commit. A known id with the same body answers with the task as it is."""
    context = context_of(request)
    submission = await model_of(request, TaskSubmission, MAX_MESSAGE_BYTES)
    problems = context.submissions.problems(submission)
    if problems:
        raise InvalidInput(problems)
    (result,) = await context.submissions.post([submission], caller_of(request))
    if result.clash:
        raise ClashingId(result.task.id)
    status = HTTPStatus.CREATED if result.created else HTTPStatus.OK
    return JSON(task_shape(result.task, context), status, {"Location": f"/api/tasks/{result.task.id}"})


async def post_batch(request: Request) -> Response:
    """Take many tasks in, as an array or NDJSON, in one transaction. A bad one does not stop the rest.

    The answer has an item for each, in order: `{"id", "status": created, known, clash or invalid, "problems"}`.
    """
    context = context_of(request)
    body = await body_of(request, MAX_BATCH_BYTES)
    is_array = body.lstrip()[:1] == b"["
    read = read_submissions(body, MAX_BATCH_BYTES) if is_array else read_submission_lines(body)
    whole = read[0] if len(read) == 1 else None
    if isinstance(whole, Refused) and (whole.position is None or not is_array):
        raise InvalidInput(whole.problems)
    checked = [_check(one, position, context) for position, one in enumerate(read)]
    taken = [one for one in checked if isinstance(one, TaskSubmission)]
    results = iter(await context.submissions.post(taken, caller_of(request)))
    items = [_refused_item(one) if isinstance(one, Refused) else _item(next(results)) for one in checked]
    status = HTTPStatus.CREATED if any(item["status"] == "created" for item in items) else HTTPStatus.OK
    return JSON({"items": items}, status)


async def list_tasks(request: Request) -> Response:
    """List tasks, newest first."""
    context = context_of(request)
    query = query_of(request, TaskQuery)
    since_ms = int(query.since.timestamp() * 1000) if query.since else None
    wanted = queries.TaskFilter(query.site, query.worker, query.state, query.kind, since_ms, query.parent)
    page = await context.read(partial(queries.list_tasks, wanted=wanted, limit=query.limit, cursor=query.cursor))
    return listed([task_shape(task, context) for task in page.items], page.next)


async def get_task(request: Request) -> Response:
    """Show one task with its attempts and its timeline, and what each worker is to it."""
    context, asked = context_of(request), query_of(request, OneTaskQuery)
    found = await _found(context, request.path_params["id"])
    if not asked.explain:
        return JSON(task_in_full(found, context))
    children = await context.read(partial(children_by_worker, parent=found.task.id)) if found.children else {}
    return JSON({**task_in_full(found, context), "explain": explained(found, context, children)})


async def wait_for_task(request: Request) -> Response:
    """Answer with the task once it has ended, or as it stands after `timeout` seconds."""
    context, task_id = context_of(request), request.path_params["id"]
    timeout = query_of(request, WaitQuery).timeout
    with context.waiters.watch(task_id) as ended:
        shape = await in_full(context, task_id)
        if shape["state"] not in ENDED:
            try:
                await asyncio.wait_for(ended.wait(), timeout)
            except TimeoutError:
                return JSON(shape)
            shape = await in_full(context, task_id)
    return JSON(shape)


async def in_full(context: Context, task_id: str) -> dict[str, object]:
    """Return a task as it is shown alone. Raises `NotFound`."""
    return task_in_full(await _found(context, task_id), context)


async def _found(context: Context, task_id: str) -> InFull:
    found = await context.read(partial(queries.one_task, task_id=task_id))
    if found is None:
        raise NotFound("id", task_id)
    return found


def _check(one: TaskSubmission | Refused, position: int, context: Context) -> TaskSubmission | Refused:
    if isinstance(one, Refused):
        return one
    problems = context.submissions.problems(one)
    placed = tuple(Problem(f"[{position}].{problem.field}", problem.value, problem.expected) for problem in problems)
    return Refused(placed, "", one.id, position) if placed else one


def _item(result: Submitted) -> dict[str, object]:
    if result.clash:
        problem = Problem("id", result.task.id, "an id that no other task has")
        return {"id": result.task.id, "status": "clash", "problems": [problem.as_dict()]}
    return {"id": result.task.id, "status": "created" if result.created else "known"}


def _refused_item(refused: Refused) -> dict[str, object]:
    return {
        "id": refused.task,
        "status": "invalid",
        "problems": [problem.as_dict() for problem in refused.problems],
    }


routes = [
    Route("/api/tasks", post_task, methods=["POST"]),
    Route("/api/tasks", list_tasks, methods=["GET"]),
    Route("/api/tasks/batch", post_batch, methods=["POST"]),
    Route("/api/tasks/{id}", get_task, methods=["GET"]),
    Route("/api/tasks/{id}/wait", wait_for_task, methods=["GET"]),
]
