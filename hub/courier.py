"""Sends workers what is theirs: the tasks that they were assigned, and the attempts that they must stop."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from broker.messages import MAX_MESSAGE_BYTES, Cancel, encode
from broker.topics import Control, WorkerTasks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.fleet import Fleet
    from hub.rules.task import Drop
    from hub.store.tasks import Sent
    from hub.wire import Wire


class Courier:
    """Sends what is committed. What does not arrive is sent again by who watches for an answer."""

    def __init__(self, fleet: Fleet, wire: Wire) -> None:
        self._fleet = fleet
        self._wire = wire

    def send(self, sent: Iterable[Sent]) -> None:
        """Send assignments, each worker's together."""
        by_worker: defaultdict[str, list[str]] = defaultdict(list)
        for one in sent:
            by_worker[one.worker].append(one.payload)
        for worker_id, payloads in by_worker.items():
            worker = self._fleet.get(worker_id)
            if worker:
                for message in arrays(payloads):
                    self._wire.send(WorkerTasks(worker.site, worker.id), message)

    def cancel(self, drops: Iterable[Drop]) -> None:
        """Tell workers to stop what they should not hold."""
        for drop in drops:
            worker = self._fleet.get(drop.worker)
            if worker:
                cancel = Cancel(task=drop.task, attempt=drop.attempt, reason=drop.reason)
                self._wire.send(Control(worker.site, worker.id), encode(cancel))


def arrays(payloads: Iterable[str]) -> Iterable[bytes]:
    """Join JSON texts into arrays, none of them larger than a message may be."""
    batch: list[str] = []
    size = 2
    for payload in payloads:
        length = len(payload.encode()) + 1
        if batch and size + length > MAX_MESSAGE_BYTES:
            yield f"[{','.join(batch)}]".encode()
            batch, size = [], 2
        batch.append(payload)
        size += length
    if batch:
        yield f"[{','.join(batch)}]".encode()
