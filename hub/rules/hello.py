"""What a hello makes of the tasks at its worker (DESIGN §5): which attempts stop, go on, or are sent once more.

A hello says what the worker holds. Of what it does not hold, its journal may still tell; so an accepted attempt is not
judged here, but once the journal is committed as far as the hello knew it (`hub.holdings`). Only where that journal
is gone, nothing is left to wait for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from hub.rules import life
from hub.rules.task import ENDED, HELD, Attempt, AttemptState, Case, TaskState

if TYPE_CHECKING:
    from collections.abc import Collection


class Memory(StrEnum):
    """Whether hub and worker know all that they have told each other.

    Attributes:
        WHOLE: They do.
        WORKERS_LOST: The worker has a new journal: what the last one knew and had not told is gone.
        HUBS_LOST: This database is older than what the worker was told of it: it was restored from a backup.

    """

    WHOLE = ""
    WORKERS_LOST = "its worker came back with a new journal"
    HUBS_LOST = "this database has lost what its worker told of it"


_NOT_WHOLE = frozenset({Memory.WORKERS_LOST.value, Memory.HUBS_LOST.value})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub says to a hello, about one task.

    Attributes:
        case: The task as it is then.
        drop: The attempts that the worker must not go on with.
        send: Whether the worker is sent the task's current attempt once more.

    """

    case: Case
    drop: tuple[int, ...] = ()
    send: bool = False


def answer(case: Case, worker: str, held: Collection[int], memory: Memory, now: int, *, synced: bool = False) -> Answer:
    """Answer a hello as far as it is about one task.

    Args:
        case: A task of which the worker holds attempts, or that is at the worker.
        worker: Who says hello.
        held: The numbers of the attempts that it holds.
        memory: Whether it and the hub know all that they have told each other.
        now: Milliseconds.
        synced: Whether all that its journal held at this hello is committed.

    """
    drop: list[int] = []
    for number in sorted(held):
        back = on_held(case, number, worker, memory)
        if back is None:
            drop.append(number)
        else:
            case = back
    drop.extend(number for number in held if number < case.task.attempt and number not in drop)
    if case.task.cancel_ms is not None:
        drop.extend(number for number in held if number not in drop)
    if case.task.worker == worker and case.task.attempt not in held:
        case, send = _on_not_held(resume(case, worker) if synced and not memory else case, memory, now)
        return Answer(case, tuple(drop), send)
    return Answer(case, tuple(drop))


def on_held(case: Case, number: int, worker: str, memory: Memory = Memory.WHOLE) -> Case | None:
    """Return the case where `worker` holds an attempt of it; None where it must stop.

    One that was thought to be lost goes on, if nobody else has the task. One that this database does not know is told
    by the worker's journal, unless the database has lost that.
    """
    task = case.task
    attempt = case.attempts.get((number, worker))
    if attempt and (attempt.superseded or not life.is_live(attempt, or_lost=True)):
        return None
    if task.state in ENDED or number < task.attempt:
        return None
    if (task.attempt, task.worker) == (number, worker) and task.state in HELD:
        return case
    if attempt is None and memory is Memory.HUBS_LOST:
        attempt = Attempt(number, worker, AttemptState.ACCEPTED)
    if attempt and (task.state not in HELD or number > task.attempt):
        return life.in_hands_of(case, attempt._replace(state=_as_before(attempt), error=None))
    return case if task.worker in (None, worker) or number > task.attempt else None


def _as_before(attempt: Attempt) -> AttemptState:
    return AttemptState.ACCEPTED if attempt.started_ms is None else AttemptState.RUNNING


def resume(case: Case, worker: str) -> Case:
    """Give a task that was never taken to the same worker, as the same attempt.

    It is `unknown` only because the worker went before it accepted. Now the worker's journal is committed as far as a
    hello knew it, and tells nothing of the attempt: it can be sent again, since a worker takes each only once.
    """
    task = case.task
    if task.state is not TaskState.UNKNOWN or task.worker != worker or task.cancel_ms is not None:
        return case
    attempt = case.attempts.get((task.attempt, worker))
    if attempt is None or not _is_untouched(attempt):
        return case
    attempt = attempt._replace(state=AttemptState.ASSIGNED, error=None)
    task = task._replace(state=TaskState.ASSIGNED, reason=None)
    return Case(task, {**case.attempts, (task.attempt, worker): attempt})


def _on_not_held(case: Case, memory: Memory, now: int) -> tuple[Case, bool]:
    """Judge the current attempt, which its worker does not hold; return whether to send it once more."""
    task = case.task
    if task.state is TaskState.UNKNOWN and memory:
        return _never_to_resume(case, memory), False
    if task.state is TaskState.ASSIGNED:
        if memory is Memory.WORKERS_LOST or (memory is Memory.HUBS_LOST and not task.idempotent):
            return life.on_lost(case, task.attempt, memory.value, now), False
        return case, task.cancel_ms is None
    if task.state is TaskState.RUNNING and memory is Memory.WORKERS_LOST:
        return life.on_lost(case, task.attempt, memory.value, now), False
    return case, False


def _never_to_resume(case: Case, memory: Memory) -> Case:
    key = (case.task.attempt, case.task.worker or "")
    attempt = case.attempts.get(key)
    if attempt is None or not _is_untouched(attempt):
        return case
    return Case(case.task, {**case.attempts, key: attempt._replace(error=memory.value)})


def _is_untouched(attempt: Attempt) -> bool:
    """Tell whether an attempt was assigned and lost, and nobody has heard of it since."""
    return (
        attempt.state is AttemptState.LOST
        and not attempt.superseded
        and attempt.assigned_ms is not None
        and (attempt.accepted_ms, attempt.started_ms) == (None, None)
        and attempt.error not in _NOT_WHOLE
    )
