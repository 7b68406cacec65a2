"""A worker's journal, as its event loop knows it, over what is on its disk. It follows `edge_agent.store.journal`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from broker.messages import Batch, JournalPosition
from tests.model.disk import Gaps
from tests.model.writer import Commit, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.messages import AnyEvent, Event
    from edge_agent.rules.eviction import Class
    from tests.model.disk import Disk
    from tests.model.world import World

BATCH_EVENTS = 3
"""Small, so that a schedule has several batches in flight."""

Result = TypeVar("Result")


class Journal:
    """What one run of the agent has to tell. `writer` is the one thread that commits, the inbox's work as well."""

    def __init__(self, world: World, worker: str, disk: Disk) -> None:
        self._world = world
        self._worker = worker
        self._disk = disk
        self.writer = Writer()
        self.stream = disk.stream
        self.newest = disk.newest
        self.settled = self._asked = disk.settled
        self._told = disk.newest  # by this run or an older one, at most
        self._gaps = Gaps()

    @property
    def position(self) -> JournalPosition:
        oldest = next((number for number in self._disk.rows if number <= self.newest), self.newest + 1)
        return JournalPosition(stream=self.stream, oldest=oldest, newest=self.newest, settled=self.settled)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, events: Sequence[Event]) -> None:
        """Write events within a piece of work."""
        self._disk.append(events)
        self._world.witness.on_told(self._worker, self._disk, events)

    def post(self, events: Sequence[Event]) -> None:
        """Write events for which nobody waits."""
        self.writer.begin(self.commit(partial(self.write, events)))

    async def commit(self, work: Callable[[], Result]) -> Result:
        """Do a piece of work, and learn after its commit how the journal stands."""
        done: tuple[Result, int] = await Commit(lambda: (work(), self._disk.newest))
        result, self.newest = done
        return result

    def evict(self, kind: Class) -> None:
        """Drop the older half of a class: the journal is full."""
        self.writer.begin(self.commit(partial(self._write_evicted, kind)))

    def settle(self, through: int) -> None:
        """Forget everything up to `through`: the hub has committed it."""
        if self._asked < through <= self.newest:
            self._asked = through
            self.writer.begin(self._commit_settled(through))

    def is_outrun(self, stream: str, through: int) -> bool:
        """Tell whether the hub has more of this stream than this disk ever told: it is an old copy of another."""
        return stream == self.stream and through > self._told

    async def begin_stream(self) -> None:
        """Give the numbers to a new stream."""
        self.stream = await self.commit(self._write_stream)
        self.settled = self._asked = self._told = 0

    def _write_evicted(self, kind: Class) -> None:
        gone = self._gaps.evict(self._disk, kind, self._world.now)
        if gone:
            self._world.witness.on_evicted(self._worker, self._disk, gone)
            self._world.witness.on_told(self._worker, self._disk, [self._disk.rows[self._disk.newest]])

    async def _commit_settled(self, through: int) -> None:
        await self.commit(partial(self._write_settled, self.stream, through))
        self.settled = max(self.settled, through)

    def _write_settled(self, stream: str, through: int) -> None:
        self._world.witness.on_settled(self._worker, stream, through)
        self._disk.settle(through)

    def _write_stream(self) -> str:
        self._disk.stream = self._world.new_id("stream")
        self._disk.settled = 0
        self._world.witness.on_new_stream(self._disk)
        return self._disk.stream

    # -- reading -----------------------------------------------------------------------------------------------------

    def has_more(self, cursor: int) -> bool:
        """Tell whether there is an event at or behind a number."""
        return any(cursor <= number <= self.newest for number in self._disk.rows)

    def lease(self, cursor: int) -> Batch:
        """Return the events at and behind a number; there must be one."""
        numbers = [number for number in self._disk.rows if cursor <= number <= self.newest][:BATCH_EVENTS]
        self._gaps.leased = self.newest
        has_holes = numbers[-1] - numbers[0] >= len(numbers)
        batch = Batch(
            stream=self.stream,
            first=numbers[0],
            events=tuple(cast("AnyEvent", self._disk.rows[number]) for number in numbers),
            after=cursor - 1 if cursor != numbers[0] else None,
            numbers=tuple(numbers) if has_holes else None,
        )
        self._told = max(self._told, batch.last)
        return batch
