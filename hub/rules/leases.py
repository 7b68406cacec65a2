"""Who holds which task, and until when without a word (DESIGN §4): pure bookkeeping with deadlines as arguments."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Lease:
    """A task in the hands of a worker: sent at `assigned_ms`, and maybe accepted."""

    task: str
    attempt: int
    worker: str
    assigned_ms: int
    idempotent: bool
    accepted: bool = False


class Leases:
    """All leases, with the unaccepted ones in the order in which they fall due."""

    def __init__(self) -> None:
        self._by_worker: defaultdict[str, dict[str, Lease]] = defaultdict(dict)
        self._unaccepted: OrderedDict[str, Lease] = OrderedDict()
        self._by_task: dict[str, Lease] = {}

    def hold(self, lease: Lease) -> None:
        """Note that a worker was sent a task, or that it has accepted it."""
        self.release(lease.task)
        self._by_task[lease.task] = self._by_worker[lease.worker][lease.task] = lease
        if not lease.accepted:
            self._unaccepted[lease.task] = lease

    def release(self, task: str) -> Lease | None:
        """Forget a task that nobody holds any more; return its lease, if there was one."""
        lease = self._by_task.pop(task, None)
        if lease:
            del self._by_worker[lease.worker][task]
            self._unaccepted.pop(task, None)
        return lease

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
