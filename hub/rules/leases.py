"""Who holds which task, and until when without a word (DESIGN §4): pure bookkeeping with deadlines as arguments."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Ref = tuple[str, int]
"""A task and an attempt."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A task in the hands of a worker: sent at `assigned_ms`, and maybe accepted.

    Attributes:
        accepted: Whether its journal has told that it holds it.
        named: Whether the worker has said so itself, before its journal could: a long history may stand before that.
        cancelled: Whether somebody asked to cancel the task: it is not sent again.
        sends: How often it was sent again in vain.
        postponed: How often its time to accept has passed while its worker had a history to tell first.
        mark: A stream, and a number in it that is not before the event that accepted the attempt; None while unknown.

    """

    task: str
    attempt: int
    worker: str
    assigned_ms: int
    idempotent: bool
    accepted: bool = False
    named: bool = False
    cancelled: bool = False
    sends: int = 0
    postponed: int = 0
    mark: tuple[str, int] | None = None

    @property
    def ref(self) -> Ref:
        """Task and attempt."""
        return self.task, self.attempt

    @property
    def taken(self) -> bool:
        """Whether the worker is known to hold it."""
        return self.accepted or self.named


class Leases:
    """All leases, with the unaccepted ones in the order in which they fall due."""

    def __init__(self) -> None:
        self._by_worker: defaultdict[str, dict[str, Lease]] = defaultdict(dict)
        self._unaccepted: OrderedDict[str, Lease] = OrderedDict()
        self._unmarked: defaultdict[str, set[str]] = defaultdict(set)
        self._by_task: dict[str, Lease] = {}

    def hold(self, lease: Lease) -> None:
        """Note that a worker was sent a task, or that it has accepted it."""
        self.release(lease.task)
        self._by_task[lease.task] = self._by_worker[lease.worker][lease.task] = lease
        if not lease.taken:
            self._unaccepted[lease.task] = lease
        elif lease.mark is None:
            self._unmarked[lease.worker].add(lease.task)

    def release(self, task: str) -> Lease | None:
        """Forget a task that nobody holds any more; return its lease, if there was one."""
        lease = self._by_task.pop(task, None)
        if lease:
            del self._by_worker[lease.worker][task]
            self._unaccepted.pop(task, None)
            self._unmarked[lease.worker].discard(task)
        return lease

    def get(self, task: str) -> Lease | None:
        """Return the lease of a task."""
        return self._by_task.get(task)

    def count(self, worker: str) -> int:
        """Return how many tasks a worker holds."""
        return len(self._by_worker[worker]) if worker in self._by_worker else 0

    def of(self, worker: str) -> list[Lease]:
        """Return what a worker holds."""
        return list(self._by_worker.get(worker, {}).values())

    def overdue(self, now: int, accept_timeout_ms: int) -> list[Lease]:
        """Return the leases that were not accepted in time, each once per timeout."""
        due = []
        for lease in list(self._unaccepted.values()):
            if now - lease.assigned_ms < accept_timeout_ms:
                break
            due.append(lease)
            self.hold(replace(lease, assigned_ms=now))
        return due

    def sent_again(self, tasks: Iterable[str]) -> None:
        """Note that tasks were sent once more to the workers that have not accepted them."""
        for task in tasks:
            lease = self._unaccepted.get(task)
            if lease:
                self._hold_in_place(replace(lease, sends=lease.sends + 1))

    def postpone(self, task: str) -> None:
        """Note that a worker had no time to accept what it was sent."""
        lease = self._unaccepted.get(task)
        if lease:
            self._hold_in_place(replace(lease, postponed=lease.postponed + 1))

    def name(self, worker: str, held: Collection[Ref], mark: tuple[str, int]) -> None:
        """Note what a worker says that it holds, with how its journal stood then: all of that was accepted before."""
        for lease in self.of(worker):
            if not lease.taken and lease.ref in held:
                self.hold(replace(lease, named=True, mark=mark))

    def begin_anew(self, worker: str, now: int) -> None:
        """Let the time to accept begin anew for all that a worker's journal has not told of, named before or not."""
        for lease in self.of(worker):
            if not lease.accepted:
                self.hold(replace(lease, assigned_ms=now, named=False, mark=None))

    def forgive(self, now: int) -> None:
        """Let the time to accept begin anew for everybody."""
        for lease in list(self._unaccepted.values()):
            self.hold(replace(lease, assigned_ms=now))

    def mark(self, worker: str, stream: str, through: int) -> None:
        """Note that what this worker is known to have accepted was accepted up to here in its journal."""
        for task in list(self._unmarked.get(worker, ())):
            self.hold(replace(self._by_task[task], mark=(stream, through)))

    def _hold_in_place(self, lease: Lease) -> None:
        """Change an unaccepted lease in its place: the order is that of the deadlines, and they stay as they are."""
        self._unaccepted[lease.task] = self._by_task[lease.task] = self._by_worker[lease.worker][lease.task] = lease

    def unnamed(self, worker: str, held: Collection[Ref]) -> list[Lease]:
        """Return what a worker has accepted, and does not name among what it holds."""
        return [lease for lease in self.of(worker) if lease.taken and lease.ref not in held]


def is_before(mark: tuple[str, int] | None, stream: str, newest: int) -> bool:
    """Tell whether a lease was accepted by event `newest` of a worker's journal, or in an earlier journal."""
    return mark is not None and (mark[0] != stream or mark[1] <= newest)
