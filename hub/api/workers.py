"""`/api/workers` and `/api/sites`: who is there, what each can do, and how far to trust that."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.routing import Route

from hub.api.answers import JSON, Query, listed, query_of
from hub.api.context import context_of
from hub.api.shapes import task_shape, worker_shape
from hub.api.tasks import TaskQuery
from hub.errors import NotFound
from hub.rules.presence import PresenceState
from hub.store import queries

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from hub.worker import Worker


class WorkerQuery(Query):
    """What `GET /api/workers` takes; `capability` is a name, or `name=value`."""

    site: str | None = None
    state: PresenceState | None = None
    capability: str | None = None


async def list_workers(request: Request) -> Response:
    """List every worker that was ever heard of, by site and name."""
    query = query_of(request, WorkerQuery)
    workers = [worker for worker in context_of(request).fleet.all() if _is_wanted(worker, query)]
    return listed([worker_shape(worker) for worker in workers], None)


async def get_worker(request: Request) -> Response:
    """Show one worker."""
    query_of(request, Query)
    return JSON(worker_shape(_worker(request)))


async def list_worker_tasks(request: Request) -> Response:
    """List the tasks that a worker has or had."""
    context, worker = context_of(request), _worker(request)
    query = query_of(request, TaskQuery)
    since_ms = int(query.since.timestamp() * 1000) if query.since else None
    wanted = queries.TaskFilter(query.site, worker.id, query.state, query.kind, since_ms, query.parent)
    page = await context.read(partial(queries.list_tasks, wanted=wanted, limit=query.limit, cursor=query.cursor))
    return listed([task_shape(task, context) for task in page.items], page.next)


async def list_sites(request: Request) -> Response:
    """List the sites: those of workers, and those that tasks wait for."""
    context = context_of(request)
    query_of(request, Query)
    waiting = await context.read(queries.count_by_site)
    here: dict[str, list[Worker]] = {site: [] for site in waiting}
    for worker in context.fleet.all():
        here.setdefault(worker.site, []).append(worker)
    return listed([_site_shape(site, here[site], waiting.get(site, {})) for site in sorted(here)], None)


def _site_shape(site: str, workers: list[Worker], waiting: dict[str, int]) -> dict[str, object]:
    states = [worker.presence.state for worker in workers]
    return {
        "site": site,
        "workers": {state.value: states.count(state) for state in PresenceState},
        "tasks": {state: waiting.get(state, 0) for state in ("pending", "assigned", "running", "unknown")},
    }


def _is_wanted(worker: Worker, query: WorkerQuery) -> bool:
    if query.site not in (None, worker.site) or query.state not in (None, worker.presence.state):
        return False
    if query.capability is None:
        return True
    name, equals, wanted = query.capability.partition("=")
    value = worker.place.capabilities.get(name, False)  # to placement, what it does not have is false
    if not equals:
        return value is not False
    return (str(value).lower() if isinstance(value, bool) else str(value)) == wanted


def _worker(request: Request) -> Worker:
    worker = context_of(request).fleet.get(request.path_params["id"])
    if worker is None:
        raise NotFound("worker", request.path_params["id"])
    return worker


routes = [
    Route("/api/sites", list_sites, methods=["GET"]),
    Route("/api/workers", list_workers, methods=["GET"]),
    Route("/api/workers/{id}", get_worker, methods=["GET"]),
    Route("/api/workers/{id}/tasks", list_worker_tasks, methods=["GET"]),
]
