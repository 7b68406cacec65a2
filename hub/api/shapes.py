"""How tasks, attempts and workers look in the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import from_json

from broker.clock import now_ms
from hub.api.answers import rfc3339
from hub.rules.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hub.api.context import Context
    from hub.rules.task import Attempt, Task
    from hub.store.queries import InFull
    from hub.worker import Worker

_SPEC_FIELDS = ("params", "requires", "labels", "timeout_seconds", "retry")


def task_shape(task: Task, context: Context) -> dict[str, object]:
    """Return a task as lists show it. `worker` is who has or had it, else who alone may; `site` likewise."""
    spec = from_json(task.spec)
    worker = context.fleet.get(task.worker) if task.worker else None
    return {
        "id": task.id,
        "kind": task.kind,
        "site": task.site or (worker.site if worker else None),
        "worker": task.worker or task.pinned,
        "state": task.state,
        "reason": context.dispatcher.reason(task),
        "attempt": task.attempt,
        "priority": task.priority,
        "idempotent": task.idempotent,
        **{name: spec.get(name) for name in _SPEC_FIELDS},
        "target": task.target,
        "parent": task.parent,
        "via": task.via,
        "result": task.result,
        "error": task.error,
        "cancel_requested_at": rfc3339(task.cancel_ms),
        "created_at": rfc3339(task.created_ms),
        "started_at": rfc3339(task.started_ms),
        "finished_at": rfc3339(task.finished_ms),
        "expires_at": rfc3339(task.expires_ms),
    }


def task_in_full(found: InFull, context: Context) -> dict[str, object]:
    """Return a task as it is shown alone: with attempts and timeline, and a parent with its children, counted."""
    return {
        **task_shape(found.task, context),
        "children": None if found.children is None else _children(found.children),
        "attempts": [attempt_shape(attempt) for attempt in found.attempts],
        "timeline": timeline(found),
    }


def _children(counts: Mapping[TaskState, int]) -> dict[str, int]:
    return {"total": sum(counts.values()), **{state.value: counts.get(state, 0) for state in TaskState}}


def attempt_shape(attempt: Attempt) -> dict[str, object]:
    """Return one attempt. What its worker timed is by the hub's clock to within `error_ms`; null is not known."""
    return {
        "attempt": attempt.number,
        "worker": attempt.worker,
        "state": attempt.state,
        "assigned_at": rfc3339(attempt.assigned_ms),
        "accepted_at": rfc3339(attempt.accepted_ms),
        "started_at": rfc3339(attempt.started_ms),
        "finished_at": rfc3339(attempt.finished_ms),
        "error_ms": attempt.error_ms,
        "progress": attempt.progress,
        "progress_message": attempt.progress_message,
        "superseded": attempt.superseded,
        "result": attempt.result,
        "error": attempt.error,
    }


def timeline(found: InFull) -> list[dict[str, object]]:
    """Return what happened to a task, in order.

    The order is that of time, but for the steps of one attempt: a worker's clock may be wrong by more than lies between
    two of them, and which comes first is known without it.
    """
    task, attempts = found.task, found.attempts
    events = [step for attempt in attempts for step in _steps(attempt)]
    events.extend(_Step(deed.at_ms, deed.at_ms, {"event": deed.verb, **deed.said}) for deed in found.deeds)
    if found.children and task.started_ms is not None:
        made = {"event": "expanded", "children": sum(found.children.values())}
        events.append(_Step(task.started_ms, task.started_ms, made))
    at = task.finished_ms
    if at is not None and not any(attempt.finished_ms == at for attempt in attempts):
        events.append(_Step(at, at, {"event": task.state.value}))
    events.sort(key=lambda step: step.place)
    created = _Step(task.created_ms, task.created_ms, {"event": "created", "via": task.via})
    return [{"at": rfc3339(step.at_ms), **step.event} for step in (created, *events)]


class _Step(NamedTuple):
    """Something that happened at `at_ms`, and stands in the order of things where `place` says."""

    place: int
    at_ms: int
    event: dict[str, object]


def _steps(attempt: Attempt) -> Iterator[_Step]:
    place = 0
    for name, at in (
        ("assigned", attempt.assigned_ms),
        ("accepted", attempt.accepted_ms),
        ("started", attempt.started_ms),
        (attempt.state.value, attempt.finished_ms),
    ):
        if at is not None:
            place = max(place, at)
            yield _Step(place, at, {"event": name, "attempt": attempt.number, "worker": attempt.worker})


def worker_shape(worker: Worker) -> dict[str, object]:
    """Return a worker as it is known now."""
    birth, heartbeat, presence = worker.birth, worker.heartbeat, worker.presence
    return {
        "id": worker.id,
        "site": worker.site,
        "state": presence.state,
        "reason": presence.reason,
        "since": rfc3339(presence.since_ms),
        "last_seen": rfc3339(presence.last_seen_ms or None),
        "capabilities": birth.capabilities if birth else {},
        "slots": birth.slots if birth else None,
        "kinds": sorted(birth.kinds) if birth else [],
        "version": birth.version if birth else None,
        "running": [ref.model_dump() for ref in heartbeat.running] if heartbeat else [],
        "queued": heartbeat.queued if heartbeat else 0,
        "in_flight": worker.place.in_flight,
        "journal": _journal(worker),
        "clock": _clock(worker),
        "load": _load(worker),
        "transport": birth.transport if birth else None,
    }


def _clock(worker: Worker) -> dict[str, object]:
    offset_ms, error_ms = worker.clock(now_ms()) or (None, None)
    return {"offset_ms": offset_ms, "error_ms": error_ms}


def _load(worker: Worker) -> dict[str, object]:
    beat = worker.heartbeat
    return {
        "cpu_percent": beat and beat.cpu_percent,
        "memory_bytes": beat and beat.memory_bytes,
        "disk_free_bytes": beat and beat.disk_free_bytes,
        "written_bytes_today": beat and beat.written_bytes_today,
        "storage": beat and beat.storage,
    }


def _journal(worker: Worker) -> dict[str, object]:
    """Return what waits in the journal, the oldest since a time by the hub's clock, where the worker's is known."""
    depth = worker.heartbeat.journal if worker.heartbeat else None
    if depth is None:
        return {"rows": None, "bytes": None, "oldest_at": None}
    return {"rows": depth.rows, "bytes": depth.bytes, "oldest_at": rfc3339(worker.corrected(depth.oldest_at))}
