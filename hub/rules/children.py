"""Who is given a child of a task for each matching worker, and what that child is (DESIGN §4, decision 10).

A task whose target is `all` is a *parent*: no worker ever holds it. It waits until some worker matches, and is then
expanded, once: into one child for each worker that matches at that moment, pinned to it. `hub.rules.parents` says what
becomes of the parent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from broker.messages import TaskDeclined, TaskFinished, TaskSpec, digest
from hub.rules.placement import Judged, Verdict, fits, misfit
from hub.rules.presence import PresenceState, Reason
from hub.rules.task import ALL, ONE, Case, Drop, Task, TaskState, new_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from broker.messages import TaskEvent
    from hub.rules.placement import Place, Shape
    from hub.rules.presence import Presence

GONE_AFTER_MS = 24 * 3600 * 1000
"""A worker that was not heard for so long is gone for good, as far as a task for all of them goes."""

MAX_ID = 128
_FINGERPRINT_BYTES = 8

NOBODYS = "it is for each matching worker: the hub makes a task for each of them"
BEING_EXPANDED = "it is about to be given to each worker that can run it"
COULD_BE_GIVEN = "it could be given a child"
OUT_OF_REACH = "it was stopped, or has not been heard for a day"
CAME_LATER = "it has no child: when the task was expanded, it did not match or was not there"


class Member(NamedTuple):
    """A worker that is given a child."""

    worker: str
    site: str


class Child(NamedTuple):
    """What a worker was given."""

    id: str
    state: TaskState


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker as expansion sees it: what it can do by its last hello, and whether it is there."""

    place: Place
    presence: Presence


def is_parent(task: Task) -> bool:
    """Tell whether a task is for each matching worker."""
    return task.target == ALL


def members(shape: Shape, candidates: Iterable[Candidate], now: int) -> list[Member]:
    """Return who is given a child, by name: each worker that fits, and that is there or may come back."""
    found = [
        Member(one.place.worker, one.place.site)
        for one in candidates
        if fits(shape, one.place) and is_within_reach(one.presence, now)
    ]
    return sorted(found)


def is_within_reach(presence: Presence, now: int) -> bool:
    """Tell whether a worker is there, or only its link is down. One that was stopped is left out."""
    if presence.state is not PresenceState.OFFLINE:
        return True
    return presence.reason is not Reason.STOPPED and now - presence.last_seen_ms <= GONE_AFTER_MS


def judged(shape: Shape, one: Candidate, child: Child | None, now: int, *, expanded: bool) -> Judged:
    """Return what a worker is to a parent that asks for `shape`, and why."""
    if child is not None:
        return Judged(Verdict.CHOSEN, f"its child {child.id} is {child.state}")
    unfit = misfit(shape, one.place)
    if unfit:
        return Judged(Verdict.MISFIT, "; ".join(unfit))
    if expanded:
        return Judged(Verdict.LEFT_OUT, CAME_LATER)
    if not is_within_reach(one.presence, now):
        return Judged(Verdict.OFFLINE, OUT_OF_REACH)
    return Judged(Verdict.COULD, COULD_BE_GIVEN)


def on_told(parent: Case, event: TaskEvent, worker: str) -> tuple[Case, tuple[Drop, ...]]:
    """Take what a worker says of a parent. To decline it is what it must do, and moves nothing; else it must stop."""
    if isinstance(event, TaskDeclined | TaskFinished):
        return parent, ()
    return parent, (Drop(worker, parent.task.id, event.attempt, NOBODYS),)


def is_unexpanded(task: Task) -> bool:
    """Tell whether a parent still waits to be expanded."""
    return is_parent(task) and task.state is TaskState.PENDING


def child_id(parent: str, worker: str, choice: int = 0) -> str:
    """Return the id of a child: `parent:worker`, or with a fingerprint where that is too long.

    A higher `choice` is for where the id is another task's: then the child has another one, and the other task is left
    alone. The same arguments always give the same id.
    """
    plain = f"{parent}:{worker}"
    if not choice and len(plain) <= MAX_ID:
        return plain
    text = f"{parent}\0{worker}\0{choice}".encode()
    fingerprint = hashlib.blake2b(text, digest_size=_FINGERPRINT_BYTES).hexdigest()
    return f"{parent[: MAX_ID - 1 - len(fingerprint)]}:{fingerprint}"


def expanded(parent: Case, ids: Mapping[Member, str], now: int) -> dict[str, Case]:
    """Return a parent as it runs, and its children, each under its id.

    A child is what its parent asks for, of one worker. It is as old as its parent, and expires with it. Who asked on a
    response topic is answered by the parent alone.
    """
    task = parent.task
    begun = task._replace(state=TaskState.RUNNING, reason=None, started_ms=now)
    spec = TaskSpec.model_validate_json(task.spec).model_copy(update={"target": ONE})
    model = new_task(spec, "", via=task.via, site=None, pinned=None, now=task.created_ms)
    model = model._replace(parent=task.id, expires_ms=task.expires_ms)
    children = {
        name: model._replace(id=name, site=one.site, pinned=one.worker, digest=digest(spec, one.site, one.worker))
        for one, name in ids.items()
    }
    return {task.id: Case(begun, parent.attempts), **{name: Case(child) for name, child in children.items()}}
