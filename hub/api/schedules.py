"""`/api/schedules`: what workers fire by themselves, and which of them have it; `/api/skips`: firings that were not."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.responses import Response
from starlette.routing import Route

from broker.errors import InvalidInput
from broker.messages import MAX_JOB_BYTES, ScheduleJob, SiteName, WorkerName
from broker.problems import Problem, explain, shown
from broker.requirements import unmet
from hub.api.answers import JSON, Paged, Query, body_of, listed, query_of, rfc3339
from hub.api.context import context_of
from hub.api.guard import caller_of
from hub.store import queries

if TYPE_CHECKING:
    from starlette.requests import Request

    from hub.api.context import Context
    from hub.rules.schedules import Schedule
    from hub.worker import Worker


class SchedulePut(ScheduleJob):
    """A job as it is put to the hub, and which workers are to have it: all that there are, unless it says so."""

    site: SiteName | None = None
    worker: WorkerName | None = None

    def job(self) -> ScheduleJob:
        """Return what the workers get."""
        return ScheduleJob.model_construct(**{name: getattr(self, name) for name in ScheduleJob.model_fields})


class SkipQuery(Paged):
    """What `GET /api/skips` takes."""

    worker: str | None = None


async def list_schedules(request: Request) -> Response:
    """List every schedule, by name."""
    context = context_of(request)
    query_of(request, Query)
    return listed([_shape(one, context) for one in context.schedules.all()], None)


async def get_schedule(request: Request) -> Response:
    """Show one schedule, and each worker that it concerns."""
    context = context_of(request)
    return JSON(_in_full(context.schedules.get(request.path_params["name"]), context))


async def put_schedule(request: Request) -> Response:
    """Have a schedule, new or in the place of the one of its name; answer after the commit."""
    context, name = context_of(request), request.path_params["name"]
    wanted = _read(name, await body_of(request, MAX_JOB_BYTES))
    job = wanted.job()
    problems = context.submissions.problems(job.task)
    if problems:
        raise InvalidInput([Problem(f"task.{one.field}", one.value, one.expected) for one in problems])
    is_new = await context.schedules.put(job, wanted.site, wanted.worker, caller_of(request))
    status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    return JSON(_in_full(context.schedules.get(name), context), status)


async def delete_schedule(request: Request) -> Response:
    """Have a schedule no more: workers drop it when they hear of it."""
    await context_of(request).schedules.delete(request.path_params["name"], caller_of(request))
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def list_skips(request: Request) -> Response:
    """List firings that became no task, newest first."""
    query = query_of(request, SkipQuery)
    read = partial(queries.list_skips, worker=query.worker, limit=query.limit, cursor=query.cursor)
    page = await context_of(request).read(read)
    return listed([_skip(row) for row in page.items], page.next)


def _read(name: str, body: bytes) -> SchedulePut:
    """Read a body, which may leave the name to the path."""
    try:
        given = from_json(body)
    except ValueError as error:
        raise InvalidInput([Problem("body", shown(body), f"valid JSON ({error})")]) from None
    if isinstance(given, dict):
        if given.setdefault("name", name) != name:
            raise InvalidInput([Problem("name", shown(given["name"]), f"the name in the path, {shown(name)}")])
        body = to_json(given)
    try:
        return SchedulePut.model_validate_json(body)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None


def _shape(one: Schedule, context: Context) -> dict[str, object]:
    workers = context.schedules.concerned(one)
    return {
        **one.job.model_dump(mode="json", by_alias=True),
        "site": one.site,
        "worker": one.worker,
        "created_at": rfc3339(one.created_ms),
        "changed_at": rfc3339(one.changed_ms),
        "concerns": len(workers),
        "taken_by": sum(map(context.schedules.is_taken, workers)),
    }


def _in_full(one: Schedule, context: Context) -> dict[str, object]:
    workers = [_worker(one, worker, context) for worker in context.schedules.concerned(one)]
    return {**_shape(one, context), "workers": workers}


def _worker(one: Schedule, worker: Worker, context: Context) -> dict[str, object]:
    """Show how far a schedule has come at a worker; `rests` is why the job waits for the worker to have something."""
    lacking = unmet(one.job.requires, worker.birth.capabilities if worker.birth else {})
    return {
        "id": worker.id,
        "site": worker.site,
        "state": worker.presence.state,
        "taken": context.schedules.is_taken(worker),
        "rests": "; ".join(lacking) or None,
    }


def _skip(row: Any) -> dict[str, object]:  # noqa: ANN401  a database row
    skip = from_json(row.body)
    return {
        "worker": row.worker,
        "site": row.site,
        "at": rfc3339(row.at_ms),
        "job": skip["job"],
        "planned_from": rfc3339(skip["planned_from"]),
        "planned_to": rfc3339(skip["planned_to"]),
        "reason": skip["reason"],
        "error_ms": skip.get("error_ms"),
    }


routes = [
    Route("/api/schedules", list_schedules, methods=["GET"]),
    Route("/api/schedules/{name}", get_schedule, methods=["GET"]),
    Route("/api/schedules/{name}", put_schedule, methods=["PUT"]),
    Route("/api/schedules/{name}", delete_schedule, methods=["DELETE"]),
    Route("/api/skips", list_skips, methods=["GET"]),
]
