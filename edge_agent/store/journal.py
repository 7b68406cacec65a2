"""The durable, ordered log of everything that this worker reports; a row goes only with the hub's receipt.

A buffer is a transaction: `batch = await journal.lease(after=…)`, and later `journal.settle(through)`. What was not
settled is still there, unless the journal was full: then the lowest class goes first, a gap event says so, and the
numbers have holes. Everything in memory here is changed in the event loop, once it is true on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import new_id, now_ms
from broker.log import get_logger
from broker.messages import JournalDepth, JournalPosition
from edge_agent.errors import StorageClosed
from edge_agent.rules.eviction import (
    BY_DISK,
    BY_LIMIT,
    DISK_SLICE_BYTES,
    DISK_SLICE_ROWS,
    MAX_SLICE_ROWS,
    Class,
    Losses,
    excess,
    losses_of,
)
from edge_agent.store import notes, rows
from edge_agent.store.lease import BATCH_BYTES, BATCH_EVENTS, Lease, fill
from edge_agent.store.rows import Depth
from edge_agent.store.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker.messages import Event
    from edge_agent.rules.eviction import Loss
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.rows import Row

SETTLE_ROWS = 2000
"""How many rows a receipt takes away at one time: a long history goes in pieces, and others need not wait for it."""

MAX_BYTES = 256_000_000
DISK_FULL = "the disk was full"

log = get_logger(__name__)


@dataclass(slots=True)
class _Change:
    """What a transaction has written and dropped, for the memory of the event loop; the depth where it is not plain."""

    written: list[Row]
    gone: list[int] = field(default_factory=list)
    depth: Depth | None = None


@dataclass(frozen=True, slots=True)
class _GapRow:
    """The last gap of a class, while it can still grow."""

    seq: int
    loss: Loss
    reason: str


class Journal:
    """The journal of one database.

    Args:
        database: Where it is.
        max_bytes: How many bytes of events may wait (WORKER_BUFFER_MAX_MB).

    Attributes:
        grown: Set whenever there is more to lease.
        stream: What the numbers belong to.
        newest: The highest number.
        settled: The highest number that ever had a receipt.
        is_new: Whether it has never been at the broker: what that keeps for this worker is an earlier journal's.
        told: The highest number that anybody can have been told: what the file held at the start, or was leased since.

    """

    def __init__(self, database: Database, *, max_bytes: int = MAX_BYTES) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._depth = Depth()
        self._tail = Tail()
        self._asked = 0
        self._losses = Losses()  # this and the next two in the writer's thread
        self._gaps: dict[Class, _GapRow] = {}
        self._leased = 0
        self.grown = asyncio.Event()
        self.stream = ""
        self.newest = 0
        self.settled = 0
        self.told = 0
        self.is_new = False

    async def load(self) -> None:
        """Read how the journal stands, however much waits; once, before all else."""
        state = await self._database.read(rows.state)
        self.stream, self._depth = state.stream, state.depth
        self.newest = self.told = state.newest
        self.settled = self._asked = state.settled
        self.is_new = state.is_new
        self._tail = Tail(state.newest)
        self._database.make_room = self._make_room

    @property
    def depth(self) -> JournalDepth:
        """What waits: rows, bytes, and since when."""
        return JournalDepth(rows=self._depth.rows, bytes=self._depth.size, oldest_at=self._depth.oldest_at)

    @property
    def position(self) -> JournalPosition:
        """What waits, by sequence numbers."""
        return JournalPosition(
            stream=self.stream,
            oldest=self._oldest,
            newest=self.newest,
            settled=self._asked,  # it has its receipt, though that may not be on the disk yet
        )

    @property
    def _oldest(self) -> int:
        return self.newest + 1 if self._depth.oldest is None else self._depth.oldest

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, transaction: Transaction, events: Iterable[Event]) -> None:
        """Write `events` within `transaction`; where that is over the limit, drop what is worth least."""
        change = _Change([rows.insert(transaction, event) for event in events])
        if not change.written:
            return
        size = rows.size(transaction)
        while wanted := excess(size, self._max_bytes):
            reason = f"the journal held more than {self._max_bytes / 1e6:g} MB (WORKER_BUFFER_MAX_MB)"
            freed = self._evict(transaction, wanted, BY_LIMIT, reason, change)
            if not freed:
                break
            size -= freed
        transaction.after_commit(partial(self._on_changed, change))

    def post(self, *events: Event) -> None:
        """Write events that nobody waits for, from any thread. What a full disk refuses is told later, as a gap."""
        self._database.post(
            lambda transaction: self.append(transaction, events), instead=partial(self._lose, losses_of(events))
        )

    def settle(self, through: int) -> None:
        """Forget everything up to `through`: the hub has committed it."""
        if self._asked < through <= self.newest:
            self._asked = through
            self._post_settle(through)

    def _post_settle(self, through: int) -> None:
        self._database.post(partial(self._settle, through=through), frees=True)

    def on_joined(self) -> None:
        """Note that the worker is at the broker with this journal."""
        if self.is_new:
            self.is_new = False
            self._database.post(notes.end_new)

    async def begin_stream(self) -> str:
        """Give the numbers to a new stream, and return it: the hub has seen more of the old one than this file holds.

        What waits stays, under its numbers.
        """
        stream = new_id()
        await self._database.commit(partial(self._begin_stream, stream=stream), durable=True)
        return stream

    async def mend(self, first: int, last: int) -> int:
        """Put a gap in place of each event from `first` to `last` that cannot be read; return how many there were."""
        count = await self._database.commit(partial(self._mend, first=first, last=last))
        if count:
            log.error("journal_mended", first=first, last=last, unreadable=count)
        return count

    # -- reading -----------------------------------------------------------------------------------------------------

    async def lease(self, *, after: int, limit: int = BATCH_EVENTS, size: int = BATCH_BYTES) -> Lease | None:
        """Return the events behind sequence number `after`: up to `limit` and about `size` bytes, at least one.

        They stay in the journal, and are there again for the next lease, until `settle`.
        """
        start = max(after + 1, self._oldest)
        if start > self.newest:
            return None
        if start >= self._tail.begins:
            self._leased = self.newest
            found = fill(after, self._tail.since(start), limit, size)
        else:
            read = await self._database.read(partial(self._read, start=start, limit=limit))
            found = fill(after, read, limit, size)
        if found:
            self.told = max(self.told, found.last)
        return found

    # -- in the writer's thread --------------------------------------------------------------------------------------

    def _read(self, transaction: Transaction, start: int, limit: int) -> list[tuple[int, bytes]]:
        found = rows.read(transaction, start, limit)
        self._leased = max(self._leased, found[-1][0] if found else 0)
        return found

    def _settle(self, transaction: Transaction, through: int) -> None:
        upto = rows.settle(transaction, through, DISK_SLICE_ROWS if self._database.full else SETTLE_ROWS)
        transaction.after_commit(partial(self._on_settled, upto, through, rows.depth(transaction)))

    def _begin_stream(self, transaction: Transaction, stream: str) -> None:
        rows.begin_stream(transaction, stream)
        transaction.after_commit(partial(self._on_stream, stream))

    def _mend(self, transaction: Transaction, first: int, last: int) -> int:
        mended = rows.mend(transaction, first, last)
        if mended:
            transaction.after_commit(partial(self._on_mended, mended, rows.depth(transaction)))
        return len(mended)

    def _make_room(self, transaction: Transaction) -> bool:
        """Drop a slice of what may go where the disk is full; tell whether there was any."""
        change = _Change([])
        self._evict(transaction, DISK_SLICE_BYTES, BY_DISK, DISK_FULL, change, most=DISK_SLICE_ROWS)
        transaction.after_commit(partial(self._on_changed, change))
        return bool(change.written)

    def _evict(
        self,
        transaction: Transaction,
        wanted: int,
        classes: Sequence[Class],
        reason: str,
        change: _Change,
        *,
        most: int = MAX_SLICE_ROWS,
    ) -> int:
        """Drop `wanted` bytes, or `most` so many rows, with a gap for each class; return how many bytes went."""
        freed = count = 0
        for kind in classes:
            if freed >= wanted or count >= most:
                break
            gone = rows.drop(transaction, kind, wanted - freed, most - count)
            if gone is not None:
                freed += gone.size
                count += gone.loss.count
                change.gone += gone.numbers
                self._tell(transaction, kind, gone.loss, reason, change)
        change.depth = rows.depth(transaction)
        return freed

    def _tell(self, transaction: Transaction, kind: Class, loss: Loss, reason: str, change: _Change) -> None:
        """Write a gap. It takes the place of the last of its kind that was not leased: an outage has one, not many."""
        last = self._gaps.get(kind)
        if last and last.seq > self._leased and last.reason == reason:
            rows.delete(transaction, last.seq)
            change.gone.append(last.seq)
            loss = loss.and_also(last.loss)
        else:
            say = partial(log.warning, "events_dropped", kind=kind.name.lower(), count=loss.count, reason=reason)
            transaction.after_commit(say)
        row = rows.insert(transaction, loss.gap(kind, reason, now_ms()))
        transaction.on_rollback(partial(self._restore_gaps, self._gaps))
        self._gaps = {**self._gaps, kind: _GapRow(row[0], loss, reason)}
        change.written.append(row)

    def _restore_gaps(self, gaps: dict[Class, _GapRow]) -> None:
        self._gaps = gaps

    def _lose(self, losses: Losses) -> partial[None] | None:
        """Count what could not be stored; return what is to be stored instead, if nothing else waits to tell it."""
        waiting = bool(self._losses)
        self._losses = self._losses.and_also(losses)
        return None if waiting or not losses else partial(self._tell_losses)

    def _tell_losses(self, transaction: Transaction) -> None:
        losses, self._losses = self._losses, Losses()
        transaction.on_rollback(partial(self._take_back, losses))
        self.append(transaction, losses.gaps(DISK_FULL, now_ms()))

    def _take_back(self, losses: Losses) -> None:
        self._losses = losses.and_also(self._losses)

    # -- in the event loop, after the commit -------------------------------------------------------------------------

    def _on_changed(self, change: _Change) -> None:
        self._depth = change.depth or self._depth.and_also(change.written)
        for seq, _, body in change.written:
            self.newest = seq
            self._tail.add(seq, body)
        for seq in change.gone:
            self._tail.forget(seq)
        self._tail.trim()
        self.grown.set()

    def _on_settled(self, upto: int, through: int, depth: Depth) -> None:
        self._depth = depth
        self.settled = max(self.settled, through)
        self._tail.forget_through(upto)
        if upto < through:
            with contextlib.suppress(StorageClosed):  # what is left goes with the next receipt
                self._post_settle(through)

    def _on_stream(self, stream: str) -> None:
        self.stream = stream
        self.settled = self._asked = 0

    def _on_mended(self, mended: dict[int, bytes], depth: Depth) -> None:
        self._depth = depth
        for seq, body in mended.items():
            self._tail.replace(seq, body)
