"""Workers, shapes and backlogs for the tests of placement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.rules.placement import Backlog, Place, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker.messages import Requirement, Scalar
    from hub.rules.placement import Limit


def worker(
    name: str = "w1",
    site: str = "site-a",
    *,
    online: bool = True,
    slots: int = 2,
    kinds: Sequence[str] = ("noop",),
    capabilities: Mapping[str, Scalar] | None = None,
    in_flight: int = 0,
    last_used: int = 0,
    full: bool = False,
    session: str = "s1",
) -> Place:
    return Place(
        name,
        site,
        online=online,
        slots=slots,
        kinds=frozenset(kinds),
        capabilities=capabilities or {},
        session=session,
        in_flight=in_flight,
        last_used=last_used,
        storage_full=full,
    )


def asking(
    site: str | None = "site-a",
    pinned: str | None = None,
    kind: str = "noop",
    labels: Mapping[str, str] | None = None,
    **requires: Requirement,
) -> Shape:
    return Shape(site, pinned, kind, repr(sorted(requires.items())), requires, tuple(sorted((labels or {}).items())))


def backlog(
    *tasks: str, shape: Shape | None = None, among: Sequence[Place] = (), limits: Sequence[Limit] = ()
) -> Backlog:
    """Return a backlog of `tasks`, each older than the next, and of the workers `among` which they may go."""
    waiting = Backlog(limits)
    for place in among:
        waiting.see(place)
    for age, task in enumerate(tasks):
        waiting.add(task, shape or asking(), 0, age)
    return waiting


def end(waiting: Backlog, task: str, place: Place) -> None:
    """Let a worker have ended a task."""
    place.in_flight -= 1
    waiting.forget(task)
    waiting.on_room(place)
