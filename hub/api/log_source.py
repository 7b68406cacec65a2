"""Whose log is meant, and where it is read: part by part, from its worker."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from hub.api.answers import Query, rfc3339
from hub.errors import LogNotKept, LogNotRead, NotFound, WorkerAway
from hub.rules.logs import MAY_WRITE, choose, why_none
from hub.rules.presence import PresenceState
from hub.rules.task import ENDED
from hub.store import queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.messages import LogPart
    from hub.api.context import Context
    from hub.rules.task import Attempt
    from hub.worker import Worker

FOLLOW_WAIT_SECONDS = 10.0
"""How long a worker waits for more output before it says that there is none yet."""

PENDING_SECONDS = 30.0
"""How long who follows may wait for a log to begin, while nothing has been sent to him."""

LOOK_AGAIN_SECONDS = 0.5
"""How often it is looked meanwhile: that an attempt is on its way to its worker, the worker cannot tell."""


MAX_NUMBER = 2**53


class LogQuery(Query):
    """What `GET /api/tasks/{id}/log` takes."""

    attempt: int | None = Field(default=None, ge=1, le=2**31 - 1)
    worker: str | None = None
    offset: int | None = Field(default=None, ge=0, le=MAX_NUMBER)
    tail_bytes: int | None = Field(default=None, ge=1, le=MAX_NUMBER)
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Whose log is read, and where."""

    context: Context
    task: str
    attempt: Attempt
    worker: Worker

    async def read(self, offset: int | None, *, tail: int = 0, wait_seconds: float = 0) -> LogPart:
        """Return the next part. Raises `WorkerAway`, `NoAnswer` or `LogNotRead`."""
        _see_that_it_is_there(self.context, self.worker)
        ref = (self.task, self.attempt.number)
        part = await self.context.logs.read(self.worker, ref, offset=offset, tail=tail, wait_seconds=wait_seconds)
        if part.problem:
            raise LogNotRead(self.worker.id, part.problem)
        return part


async def begin(context: Context, task_id: str, wanted: LogQuery) -> tuple[Source, LogPart]:
    """Return whose log is meant, and its first part; who follows waits a while for one that may still come.

    Raises:
        NotFound: If there is no such task, attempt or worker.
        LogNotKept: If there is no log.

    """
    patience = asyncio.get_running_loop().time() + PENDING_SECONDS if wanted.follow else 0
    while True:
        try:
            return await _look(context, task_id, wanted)
        except LogNotKept as error:
            if not error.may_come or asyncio.get_running_loop().time() > patience:
                raise
        with context.waiters.watch(task_id) as ended, contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), LOOK_AGAIN_SECONDS)


async def _look(context: Context, task_id: str, wanted: LogQuery) -> tuple[Source, LogPart]:
    found = await context.read(partial(queries.one_task, task_id=task_id))
    if found is None:
        raise NotFound("id", task_id)
    attempt = choose(found.task, found.attempts, wanted.attempt, wanted.worker)
    if attempt is None and found.attempts:
        field, value = ("worker", wanted.worker) if wanted.worker is not None else ("attempt", str(wanted.attempt))
        raise NotFound(field, value or "")
    if attempt is None:
        may_come = found.task.state not in ENDED
        raise LogNotKept(f"task {task_id} has no attempt: it is {found.task.state}", may_come=may_come)
    worker = context.fleet.get(attempt.worker)
    if worker is None:
        raise NotFound("worker", attempt.worker)
    source = Source(context, task_id, attempt, worker)
    return source, await _first_part(source, wanted)


async def _first_part(source: Source, wanted: LogQuery) -> LogPart:
    if wanted.tail_bytes is not None:
        part = await source.read(None, tail=wanted.tail_bytes)
    else:
        part = await source.read(wanted.offset or 0)
    if part.kept or (part.open and wanted.follow):
        return part
    why = why_none(source.attempt, part, source.worker.corrected(part.dropped_until))
    raise LogNotKept(why, may_come=source.attempt.state in MAY_WRITE)


async def parts(source: Source, part: LogPart, *, follow: bool) -> AsyncIterator[bytes]:
    """Yield a log from `part` on: the next part is asked for when this one is on its way to who reads.

    Without `follow` it ends where the log ended when it was asked for.
    """
    through = None if follow else part.size
    while True:
        content = part.content if through is None else part.content[: max(0, through - part.offset)]
        if content:
            yield content
        offset = part.offset + len(content)
        has_all = offset >= part.size if through is None else offset >= min(through, part.size)
        if has_all and not (follow and part.open):
            return
        part = await source.read(offset, wait_seconds=FOLLOW_WAIT_SECONDS if follow else 0)
        if offset and not part.kept:
            raise LogNotRead(source.worker.id, "it was dropped to make room, while it was read")
        if part.offset > offset:
            yield _gap(part.offset - offset)


def _gap(count: int) -> bytes:
    return f"\n[holdfast: {count} bytes are not here: they were dropped before they were read]\n".encode()


def _see_that_it_is_there(context: Context, worker: Worker) -> None:
    presence = worker.presence
    if presence.state is PresenceState.OFFLINE:
        since = rfc3339(presence.since_ms) or "it was first heard of"
        raise WorkerAway(worker.id, f"offline since {since} ({presence.reason})")
    if not worker.by_http and not context.wire.connected.is_set():
        raise WorkerAway(worker.id, "not to be reached: the hub has no link to its broker")
