"""When the hub may place a task that was published to workers, and that none of them has accepted (decisions 2 and 5).

One that may run twice is placed when its time is up. Any other only when each worker that should have got it has shown
that it does not have it; and not at all where one of them lost its journal meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from broker.messages import Dropped, Gap
from hub.rules import life
from hub.rules.task import Candidate, Case, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from broker.messages import AnyEvent, Birth

NEW_JOURNAL = "may have had it, and came back with a new journal"
DROPPED = "may have had it, and has dropped what it had to tell"

_MAY_HAVE_BEEN_ONE = frozenset({Dropped.RESULTS, Dropped.UNREADABLE, Dropped.EVERYTHING})


class Opening(NamedTuple):
    """How a worker takes tasks: its connection, and the nonce of its intake."""

    session: str
    intake: str


@dataclass(frozen=True, slots=True)
class Place:
    """Nobody has it: the hub places it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """These workers may have it."""

    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Somebody may have had it, and nobody can say any more."""

    why: str


Judgement = Place | Wait | GiveUp


def judge(
    candidates: Mapping[str, Candidate],
    shown: Mapping[str, Birth],
    renewed: Mapping[str, Opening],
    *,
    idempotent: bool,
    own_topic: bool,
) -> Judgement:
    """Judge an offer whose time is up.

    Args:
        candidates: Who should have got the task.
        shown: The last hello of each worker of which all that its journal held is committed.
        renewed: How each worker took tasks when it was asked, since the offer, to open its intake anew.
        idempotent: Whether the task may run twice.
        own_topic: Whether it was published on its worker's own topic: the broker keeps that for the worker over
            connections, so a new intake alone shows nothing.

    """
    if idempotent:
        return Place()
    waits = []
    for worker, candidate in candidates.items():
        proven = shown.get(worker)
        if proven is None:
            waits.append(worker)
        elif candidate.stream and proven.journal.stream != candidate.stream:
            return GiveUp(f"{worker} {NEW_JOURNAL}")
        elif not (_has_renewed if own_topic else _has_reopened)(candidate, proven, renewed.get(worker)):
            waits.append(worker)
    return Wait(tuple(waits)) if waits else Place()


def opening_of(birth: Birth) -> Opening:
    """Return how a worker takes tasks. One that tells no nonce opens its intake with each connection, and only then."""
    return Opening(birth.session, birth.intake or birth.session)


def hides_tasks(events: Iterable[tuple[int, AnyEvent]]) -> bool:
    """Tell whether a worker says that it has dropped events of which one may have told that it took a task."""
    return any(isinstance(event, Gap) and event.dropped in _MAY_HAVE_BEEN_ONE for _, event in events)


def on_hidden(case: Case, worker: str) -> Case:
    """A worker's journal has a gap: what it was offered and may not run twice, it may have run, and never tell."""
    task = case.task
    if task.idempotent or worker not in (task.offered_to or ()):
        return case
    return give_up(case, f"{worker} {DROPPED}")


def _has_reopened(candidate: Candidate, shown: Birth, renewed: Opening | None) -> bool:
    """Whether the intake that may have taken it is closed; of one that we do not know, the one that we asked about."""
    if candidate.intake:
        return opening_of(shown).intake != candidate.intake
    return renewed is not None and opening_of(shown).intake != renewed.intake


def _has_renewed(_candidate: Candidate, shown: Birth, renewed: Opening | None) -> bool:
    """Whether the worker has answered on the connection on which we asked: what was sent to it before, it has taken."""
    if renewed is None or shown.transport != "mqtt":
        return False
    now = opening_of(shown)
    return now.session == renewed.session and now.intake != renewed.intake


def withdraw(case: Case) -> Case:
    """Stop waiting for a worker to accept what it was offered: from now on the hub places it."""
    task = case.task
    if task.state is not TaskState.PENDING or task.offered_to is None:
        return case
    return Case(task._replace(offered_to=None), case.attempts)


def give_up(case: Case, why: str) -> Case:
    """Say that nobody knows whether a task that was offered has run."""
    task = case.task
    if task.state is not TaskState.PENDING or task.offered_to is None:
        return case
    return Case(life.unknown(task, why), case.attempts)
