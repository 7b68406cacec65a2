"""What workers say that they hold, set against what they should: who keeps a lease alive, and who has lost a task.

Of what a worker does not name, its journal may still tell. So it is judged only when that is committed as far as the
worker knew it, and no more than what it had accepted by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.clock import now_ms
from hub.rules import life
from hub.rules.leases import is_before
from hub.rules.presence import PresenceState
from hub.rules.task import Drop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hub.fleet import Fleet
    from hub.hearing import Hearing
    from hub.rules.leases import Lease, Ref
    from hub.rules.waiting import Waiting
    from hub.worker import Hello, Worker

LOST_THERE = "does not hold it any more, and has not told how it ended"


class Holdings:
    """Judges leases by what workers say, and by their absence.

    Args:
        fleet: The workers.
        waiting: The leases.
        hearing: Whom the hub could have heard.
        lost_after_ms: How long a worker may be offline with its tasks.

    """

    def __init__(self, fleet: Fleet, waiting: Waiting, hearing: Hearing, lost_after_ms: int) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._hearing = hearing
        self._lost_after_ms = lost_after_ms
        self._missing: dict[str, tuple[Hello, set[Ref]]] = {}
        self._given_up: list[tuple[Lease, str]] = []
        self._returned: set[str] = set()

    def on_hello(self, hello: Hello) -> None:
        """Note what a worker accepted and does not hold any more: its journal may tell how that ended.

        What it accepted after it said so is not judged by it. Batches can overtake a heartbeat, so the mark of each
        lease tells, and not the order of arrival.
        """
        leases = self._waiting.leases
        if hello.is_birth:  # what it has not accepted is either held or sent again with the answer
            leases.begin_anew(hello.worker, now_ms())
            self._name(hello)
            self._returned.discard(hello.worker)
        self._mark(hello)
        self._missing[hello.worker] = (hello, {lease.ref for lease in leases.unnamed(hello.worker, hello.held)})

    def on_synced(self, worker_id: str) -> None:
        """Take back what a worker did not hold, and has not told of: it lost it."""
        hello, missing = self._missing.pop(worker_id, (None, set()))
        if hello is None:
            return
        self._mark(hello)
        why = f"{worker_id} came back without it" if hello.is_birth else f"{worker_id} {LOST_THERE}"
        unnamed = self._waiting.leases.unnamed(worker_id, hello.held)
        self._given_up.extend(
            (lease, why)
            for lease in unnamed
            if lease.ref in missing and is_before(lease.mark, hello.journal.stream, hello.journal.newest)
        )
        if hello.is_birth and self._waiting.is_asked_after(worker_id):
            self._returned.add(worker_id)
        self._waiting.hasten_offers(worker_id, now_ms())

    def on_heartbeat(self, hello: Hello) -> list[Drop]:
        """Let a worker answer for what it says that it holds; return what it was to stop, and holds all the same."""
        self._name(hello)
        held = [lease for lease in self._waiting.leases.of(hello.worker) if lease.ref in hello.held]
        return [Drop(lease.worker, *lease.ref, life.CANCELLING) for lease in held if lease.cancelled]

    def take_lost(self, now: int) -> list[tuple[Lease, str]]:
        """Return, once, what workers have lost, and what those have that are lost; each with why."""
        given_up, self._given_up = self._given_up, []
        return [*given_up, *self._at_lost_workers(now)]

    def take_returned(self) -> set[str]:
        """Return, once, who came back and is asked what became of its tasks."""
        returned, self._returned = self._returned, set()
        return returned

    def put_returned(self, worker: str) -> None:
        """Undo `take_returned` for a worker."""
        self._returned.add(worker)

    def _at_lost_workers(self, now: int) -> Iterator[tuple[Lease, str]]:
        for worker in self._fleet:
            if self._is_lost(worker, now):
                why = f"{worker.id} is offline: {worker.presence.reason or 'not seen'}"
                yield from ((lease, why) for lease in self._waiting.leases.of(worker.id))

    def _is_lost(self, worker: Worker, now: int) -> bool:
        if worker.presence.state is not PresenceState.OFFLINE or not self._hearing.hears(worker.id):
            return False
        return now - max(worker.presence.since_ms, self._hearing.since_ms(worker.id)) > self._lost_after_ms

    def _name(self, hello: Hello) -> None:
        """Note what a worker holds of which its journal has not told yet."""
        journal = hello.journal
        self._waiting.leases.name(hello.worker, hello.held, (journal.stream, journal.newest))
        self._waiting.keep_offers(hello.held, now_ms())

    def _mark(self, hello: Hello) -> None:
        """Note how far this worker's journal is committed: not before that, it accepted what we know it has."""
        worker, stream = self._fleet.get(hello.worker), hello.journal.stream
        through = worker.marks.get(stream) if worker else None
        if through is not None:
            self._waiting.leases.mark(hello.worker, stream, through)
