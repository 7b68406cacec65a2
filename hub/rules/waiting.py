"""Where each unended task waits: in the backlog, on offer, for its next try, in a worker's hands. Pure bookkeeping.

A parent (`hub.rules.children`) waits apart, until it is expanded; then it waits for its children, and nothing here.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from broker.messages import TaskSpec
from hub.rules.children import is_parent
from hub.rules.leases import Lease, Leases
from hub.rules.placement import Backlog, Limit, Shape, labels_of_interest
from hub.rules.task import ENDED, HELD, Task, TaskState
from hub.rules.unexpanded import Unexpanded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from broker.messages import Requirement
    from hub.rules.leases import Ref

LONG_SPEC = 4096
"""Of specs that are longer, in characters, few are remembered: one may have 256 KiB."""


@dataclass(slots=True)
class Offer:
    """A task that workers should have got from a tasks topic; judged when none has accepted it by `judge_at_ms`.

    Attributes:
        since_ms: From when the hub has known of it.
        judged: Whether it was judged before.

    """

    task: Task
    judge_at_ms: int
    since_ms: int
    judged: bool = False


@dataclass(slots=True)
class Due:
    """What has fallen due: decisions for the dispatcher to carry out.

    Attributes:
        unaccepted: Sent, and not accepted in time.
        offers: Offered, and not accepted in time.
        expired: Not begun while it was worth it.
        tried_again: How many tasks have gone back to the backlog for their next try.

    """

    unaccepted: list[Lease] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    expired: list[Task] = field(default_factory=list)
    tried_again: int = 0


class Waiting:
    """The unended tasks.

    Args:
        accept_timeout_ms: How soon a worker must accept what it was sent or offered.
        limits: How many tasks of which sort may be with workers at one time.

    """

    def __init__(self, accept_timeout_ms: int, limits: Sequence[Limit] = ()) -> None:
        self.backlog = Backlog(limits)
        self.leases = Leases()
        self.parents = Unexpanded()
        self._accept_timeout_ms = accept_timeout_ms
        self._labels = labels_of_interest(limits)
        self.limited = bool(limits)
        self._offers: dict[str, Offer] = {}
        self._unknown: dict[str, str] = {}
        self._delayed: dict[str, Task] = {}
        self._due_again: list[tuple[int, str]] = []
        self._expiring: dict[str, Task] = {}
        self._expiries: list[tuple[int, str]] = []

    def put(self, task: Task, now: int) -> None:
        """Put an unended task where it waits."""
        if task.state in HELD and task.worker:
            self.leases.hold(_lease(task, task.worker, now))
        elif task.state is TaskState.UNKNOWN and task.worker:
            self._unknown[task.id] = task.worker
        elif task.state is TaskState.PENDING:
            self._put_pending(task, now)

    def follow(self, task: Task, now: int) -> None:
        """Put a task, which may wait already, where it waits now. What is known of its lease stays known."""
        known = self.leases.get(task.id)
        self.take_out(task.id)
        if task.state not in ENDED:
            self.put(task, now)
        lease = self.leases.get(task.id)
        if known and lease and (known.ref, known.worker, known.accepted) == (lease.ref, lease.worker, lease.accepted):
            self.leases.hold(replace(lease, named=known.named, sends=known.sends, mark=known.mark))

    def take_out(self, task: str) -> None:
        """Forget where a task waits. What is left of it in the heaps is passed over when it falls due."""
        self.leases.release(task)
        self.backlog.remove(task)
        self.parents.remove(task)
        self._offers.pop(task, None)
        self._unknown.pop(task, None)
        self._delayed.pop(task, None)
        self._expiring.pop(task, None)

    def offer(self, task: str) -> Offer | None:
        """Return the offer of a task that is on offer."""
        return self._offers.get(task)

    def keep_offers(self, held: Collection[Ref], now: int) -> None:
        """Let the time to accept begin anew for offers that a worker says it holds: its journal will tell of them."""
        for task, attempt in held:
            offer = self._offers.get(task)
            if offer and offer.task.attempt == attempt:
                offer.judge_at_ms = now + self._accept_timeout_ms

    def hasten_offers(self, worker: str, now: int) -> None:
        """Judge again at once what waits to hear from a worker: it has spoken."""
        for offer in self._offers.values():
            if offer.judged and worker in (offer.task.offered_to or ()):
                offer.judge_at_ms = now

    def forgive(self, now: int) -> None:
        """Let every time to accept begin anew: for a while the hub could not have heard."""
        self.leases.forgive(now)
        for offer in self._offers.values():
            offer.judge_at_ms = now + self._accept_timeout_ms

    def shape(self, task: Task) -> Shape:
        """Return what placement asks of a task."""
        return shape_of(task, self._labels)

    def is_asked_after(self, worker: str) -> bool:
        """Tell whether there are tasks of which this worker alone can say what became of them."""
        return worker in self._unknown.values()

    def is_delayed(self, task: str) -> bool:
        """Tell whether a task waits for its next try to fall due."""
        return task in self._delayed

    def due(self, now: int) -> Due:
        """Return what has fallen due, each thing once per timeout; delayed tasks go to the backlog."""
        delayed = [self._delayed.pop(task_id) for task_id in _ripe(self._due_again, now) if task_id in self._delayed]
        for task in delayed:
            self._enqueue(task)
        offers = [offer for offer in self._offers.values() if offer.judge_at_ms <= now]
        for offer in offers:
            offer.judge_at_ms, offer.judged = now + self._accept_timeout_ms, True
        expired = [self._expiring[task_id] for task_id in _ripe(self._expiries, now) if task_id in self._expiring]
        return Due(self.leases.overdue(now, self._accept_timeout_ms), offers, expired, len(delayed))

    def _put_pending(self, task: Task, now: int) -> None:
        if task.expires_ms is not None:
            self._expiring[task.id] = task
            heapq.heappush(self._expiries, (task.expires_ms, task.id))
        if is_parent(task):
            self.parents.add(task)
        elif task.offered_to is not None:
            self._offers[task.id] = Offer(task, now + self._accept_timeout_ms, now)
        elif task.not_before_ms is not None and task.not_before_ms > now:
            self._delayed[task.id] = task
            heapq.heappush(self._due_again, (task.not_before_ms, task.id))
        else:
            self._enqueue(task)

    def _enqueue(self, task: Task) -> None:
        self.backlog.add(task.id, self.shape(task), task.priority, task.created_ms)


def _lease(task: Task, worker: str, now: int) -> Lease:
    return Lease(
        task=task.id,
        attempt=task.attempt,
        worker=worker,
        assigned_ms=now,
        idempotent=task.idempotent,
        accepted=task.state is TaskState.RUNNING,
        cancelled=task.cancel_ms is not None,
    )


def shape_of(task: Task, labels: frozenset[str] = frozenset()) -> Shape:
    """Return what placement asks of a task, with those of its `labels` that matter.

    Tasks of one spec share the work of reading it.
    """
    if len(task.spec) > LONG_SPEC:
        return Shape(task.site, task.pinned, *_asked_at_length(task.spec, labels))
    return _shape(task.site, task.pinned, task.spec, labels)


@lru_cache(maxsize=4096)
def _shape(site: str | None, pinned: str | None, spec: str, labels: frozenset[str]) -> Shape:
    return Shape(site, pinned, *_asked(spec, labels))


def _read(spec: str, labels: frozenset[str]) -> tuple[str, str, Mapping[str, Requirement], tuple[tuple[str, str], ...]]:
    """Return what a shape has of a spec: the children of a parent share that, each pinned to another worker."""
    asked = TaskSpec.model_validate_json(spec)
    key = asked.model_dump_json(include={"requires"}, by_alias=True, exclude_none=True) if asked.requires else "{}"
    told = tuple(sorted((name, value) for name, value in asked.labels.items() if name in labels))
    return asked.kind, key, asked.requires, told


_asked = lru_cache(maxsize=1024)(_read)
_asked_at_length = lru_cache(maxsize=16)(_read)


def _ripe(heap: list[tuple[int, str]], now: int) -> Iterable[str]:
    while heap and heap[0][0] <= now:
        yield heapq.heappop(heap)[1]
