"""The durable, ordered log of everything that this worker reports; a row goes only with the hub's receipt.

A buffer is a transaction: `batch = await journal.lease(after=…)`, and later `journal.settle(through)`. What was not
settled is still there, unless the journal was full: then the lowest class goes first, a gap event says so, and the
numbers have holes. Everything in memory here is changed in the event loop, once it is true on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from broker.clock import new_id, now_ms
from broker.log import get_logger
from broker.messages import EVENT, Dropped, Gap, JournalDepth, JournalPosition, encode
from edge_agent.errors import StorageClosed
from edge_agent.rules.eviction import (
    BY_DISK,
    BY_LIMIT,
    DISK_SLICE_BYTES,
    DISK_SLICE_ROWS,
    MAX_SLICE_ROWS,
    Class,
    Losses,
    class_of,
    cut,
    excess,
    losses_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from broker.messages import Event
    from edge_agent.database import Database, Transaction
    from edge_agent.rules.eviction import Loss, Slice

BATCH_EVENTS = 500
BATCH_BYTES = 128 * 1024
TAIL_EVENTS = 4096
TAIL_BYTES = 1024 * 1024
"""How much of the newest is kept in memory too, so that what is sent at once is not read back from the disk."""

SETTLE_ROWS = 2000
"""How many rows a receipt takes away at one time: a long history goes in pieces, and others need not wait for it."""

MAX_BYTES = 256_000_000
DISK_FULL = "the disk was full"

_INSERT = "INSERT INTO journal (at, body, class) VALUES (?, ?, ?)"
# A bit that flips in a row's head can turn a blob into anything.
_LEASE = "SELECT seq, coalesce(CAST(body AS BLOB), x'') FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
_RANGE = "SELECT seq, at, coalesce(CAST(body AS BLOB), x'') FROM journal WHERE seq BETWEEN ? AND ?"
_DEPTH = """
    SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'journal.rows'),
           (SELECT seq FROM sqlite_sequence WHERE name = 'journal.bytes'),
           (SELECT min(seq) FROM journal),
           (SELECT at FROM journal ORDER BY seq LIMIT 1)
"""
_SIZE = "SELECT seq FROM sqlite_sequence WHERE name = 'journal.bytes'"
_NEWEST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'journal'"
_ABOUT = "SELECT value FROM about WHERE name = ?"
_SETTLED = "UPDATE about SET value = max(CAST(value AS INTEGER), ?) WHERE name = 'settled'"
_LAST_OF_SLICE = "SELECT seq FROM journal WHERE seq <= ? ORDER BY seq LIMIT 1 OFFSET ?"
_OF_CLASS = "SELECT seq, at, length(body) FROM journal WHERE class = ? ORDER BY seq"
_OF_LOW_CLASS = (
    "SELECT seq, at, length(body) FROM journal WHERE class = ? AND class < 3 ORDER BY seq"  # its index's words
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """Events behind `after`, in order, each as JSON; everything between `after` and `first` is gone.

    Attributes:
        numbers: The number of each event, where some between them are gone; else they follow each other.

    """

    after: int
    first: int
    events: tuple[bytes, ...]
    numbers: tuple[int, ...] | None = None

    @property
    def last(self) -> int:
        """The sequence number of the last event."""
        return self.numbers[-1] if self.numbers else self.first + len(self.events) - 1

    def payload(self, stream: str) -> bytes:
        """Return the events as a `broker.messages.Batch`."""
        after = f'"after":{self.after},' if self.after != self.first - 1 else ""
        numbers = f'"numbers":[{",".join(map(str, self.numbers))}],' if self.numbers else ""
        head = f'{{"stream":"{stream}","first":{self.first},{after}{numbers}"events":['
        return head.encode() + b",".join(self.events) + b"]}"


_Row = tuple[int, int, bytes]
"""Number, time and body of an event."""


@dataclass(frozen=True, slots=True)
class _Depth:
    """What waits, read within a transaction."""

    rows: int = 0
    size: int = 0
    oldest: int | None = None
    oldest_at: int | None = None

    def and_also(self, written: list[_Row]) -> _Depth:
        """Return the depth when these rows have come."""
        first, at, _ = written[0]
        size = self.size + sum(len(body) for _, _, body in written)
        if self.oldest is None:
            return _Depth(len(written), size, first, at)
        return _Depth(self.rows + len(written), size, self.oldest, self.oldest_at)


@dataclass(slots=True)
class _Change:
    """What a transaction has written and dropped, for the memory of the event loop; the depth where it is not plain."""

    written: list[_Row]
    gone: list[int] = field(default_factory=list)
    depth: _Depth | None = None


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
        told: The highest number that anybody can have been told: what the file held at the start, or was leased since.

    """

    def __init__(self, database: Database, *, max_bytes: int = MAX_BYTES) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._depth = _Depth()
        self._tail: dict[int, bytes] = {}
        self._tail_from = 1
        self._tail_bytes = 0
        self._asked = 0
        self._losses = Losses()  # this and the next two in the writer's thread
        self._gaps: dict[Class, _GapRow] = {}
        self._leased = 0
        self.grown = asyncio.Event()
        self.stream = ""
        self.newest = 0
        self.settled = 0
        self.told = 0

    async def load(self) -> None:
        """Read how the journal stands, however much waits; once, before all else."""
        (self.stream, settled), self.newest, self._depth = await self._database.read(_read_state)
        self.settled = self._asked = settled
        self.told = self.newest
        self._tail_from = self.newest + 1
        self._database.make_room = self._make_room

    @property
    def depth(self) -> JournalDepth:
        """What waits: rows, bytes, and since when."""
        return JournalDepth(rows=self._depth.rows, bytes=self._depth.size, oldest_at=self._depth.oldest_at)

    @property
    def position(self) -> JournalPosition:
        """What waits, by sequence numbers."""
        return JournalPosition(stream=self.stream, oldest=self._oldest, newest=self.newest, settled=self.settled)

    @property
    def _oldest(self) -> int:
        return self.newest + 1 if self._depth.oldest is None else self._depth.oldest

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, transaction: Transaction, events: Iterable[Event]) -> None:
        """Write `events` within `transaction`; where that is over the limit, drop what is worth least."""
        change = _Change([_insert(transaction, event) for event in events])
        if not change.written:
            return
        (size,) = transaction.execute(_SIZE).fetchone()
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

    async def begin_stream(self) -> str:
        """Give the numbers to a new stream, and return it: the hub has seen more of the old one than this file holds.

        What waits stays, under its numbers.
        """
        stream = new_id()
        await self._database.commit(partial(self._write_stream, stream=stream), durable=True)
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
        if start >= self._tail_from:
            self._leased = self.newest
            found = _fill(after, self._from_tail(start), limit, size)
        else:
            rows = await self._database.read(partial(self._read, start=start, limit=limit))
            found = _fill(after, rows, limit, size)
        if found:
            self.told = max(self.told, found.last)
        return found

    # -- in the writer's thread --------------------------------------------------------------------------------------

    def _read(self, transaction: Transaction, start: int, limit: int) -> list[tuple[int, bytes]]:
        rows = transaction.execute(_LEASE, (start - 1, limit)).fetchall()
        self._leased = max(self._leased, rows[-1][0] if rows else 0)
        return rows

    def _settle(self, transaction: Transaction, through: int) -> None:
        most = DISK_SLICE_ROWS if self._database.full else SETTLE_ROWS
        last = transaction.execute(_LAST_OF_SLICE, (through, most - 1)).fetchone()
        upto = last[0] if last else through
        transaction.execute("DELETE FROM journal WHERE seq <= ?", (upto,))
        transaction.execute(_SETTLED, (through,))
        transaction.after_commit(partial(self._on_settled, upto, through, _read_depth(transaction)))

    def _write_stream(self, transaction: Transaction, stream: str) -> None:
        transaction.execute("UPDATE about SET value = ? WHERE name = 'stream'", (stream,))
        transaction.execute("UPDATE about SET value = 0 WHERE name = 'settled'")
        transaction.after_commit(partial(self._on_stream, stream))

    def _mend(self, transaction: Transaction, first: int, last: int) -> int:
        mended: dict[int, bytes] = {}
        for seq, at, body in transaction.execute(_RANGE, (first, last)).fetchall():
            if not _is_event(body):
                mended[seq] = encode(_unreadable(seq, at))
        transaction.executemany(
            "UPDATE journal SET body = ?, class = ? WHERE seq = ?",
            [(body, int(Class.MARKS), seq) for seq, body in mended.items()],
        )
        if mended:
            transaction.after_commit(partial(self._on_mended, mended, _read_depth(transaction)))
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
        freed = rows = 0
        for kind in classes:
            if freed >= wanted or rows >= most:
                break
            gone = _drop(transaction, kind, wanted - freed, most - rows)
            if gone is not None:
                freed += gone.size
                rows += gone.loss.count
                change.gone += gone.numbers
                self._tell(transaction, kind, gone.loss, reason, change)
        change.depth = _read_depth(transaction)
        return freed

    def _tell(self, transaction: Transaction, kind: Class, loss: Loss, reason: str, change: _Change) -> None:
        """Write a gap. It takes the place of the last of its kind that was not leased: an outage has one, not many."""
        last = self._gaps.get(kind)
        if last and last.seq > self._leased and last.reason == reason:
            transaction.execute("DELETE FROM journal WHERE seq = ?", (last.seq,))
            change.gone.append(last.seq)
            loss = loss.and_also(last.loss)
        else:
            say = partial(log.warning, "events_dropped", kind=kind.name.lower(), count=loss.count, reason=reason)
            transaction.after_commit(say)
        row = _insert(transaction, loss.gap(kind, reason, now_ms()))
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
            self._tail[seq] = body
            self._tail_bytes += len(body)
        for seq in change.gone:
            self._forget(seq)
        while len(self._tail) > TAIL_EVENTS or self._tail_bytes > TAIL_BYTES:
            self._tail_from = next(iter(self._tail)) + 1
            self._forget(self._tail_from - 1)
        self.grown.set()

    def _on_settled(self, upto: int, through: int, depth: _Depth) -> None:
        self._depth = depth
        self.settled = max(self.settled, through)
        while self._tail and (seq := next(iter(self._tail))) <= upto:
            self._forget(seq)
        if upto < through:
            with contextlib.suppress(StorageClosed):  # what is left has its receipt again after the next sync
                self._post_settle(through)

    def _on_stream(self, stream: str) -> None:
        self.stream = stream
        self.settled = self._asked = 0

    def _on_mended(self, mended: dict[int, bytes], depth: _Depth) -> None:
        self._depth = depth
        for seq, body in mended.items():
            if seq in self._tail:
                self._tail_bytes += len(body) - len(self._tail[seq])
                self._tail[seq] = body

    def _forget(self, seq: int) -> None:
        self._tail_bytes -= len(self._tail.pop(seq, b""))

    def _from_tail(self, start: int) -> Iterator[tuple[int, bytes]]:
        seq = start
        while (body := self._tail.get(seq)) is not None:
            yield seq, body
            seq += 1
        numbers = list(self._tail)  # a hole, or the end
        for number in numbers[bisect_left(numbers, seq) :]:
            yield number, self._tail[number]


def _read_state(transaction: Transaction) -> tuple[tuple[str, int], int, _Depth]:
    (stream,) = transaction.execute(_ABOUT, ("stream",)).fetchone()
    (settled,) = transaction.execute(_ABOUT, ("settled",)).fetchone()
    (newest,) = transaction.execute(_NEWEST).fetchone()
    return (stream, int(settled)), newest, _read_depth(transaction)


def _read_depth(transaction: Transaction) -> _Depth:
    return _Depth(*transaction.execute(_DEPTH).fetchone())


def _insert(transaction: Transaction, event: Event) -> _Row:
    body = encode(event)
    seq = transaction.execute(_INSERT, (event.at, body, int(class_of(event)))).lastrowid or 0
    return seq, event.at, body


def _drop(transaction: Transaction, kind: Class, wanted: int, most: int) -> Slice | None:
    """Delete about `wanted` bytes of a class, the oldest first, and at `most` so many rows."""
    rows = transaction.execute(_OF_CLASS if kind >= Class.RESULTS else _OF_LOW_CLASS, (int(kind),))
    gone = cut(rows, wanted, most)
    if gone is not None:
        transaction.executemany("DELETE FROM journal WHERE seq = ?", [(seq,) for seq in gone.numbers])
    return gone


def _is_event(body: bytes) -> bool:
    try:
        EVENT.validate_json(body)
    except ValidationError:
        return False
    return True


def _unreadable(seq: int, at: object) -> Gap:
    known = at if isinstance(at, int) and at >= 0 else None
    return Gap(
        at=now_ms() if known is None else known,
        dropped=Dropped.UNREADABLE,
        count=1,
        first_at=known,
        last_at=known,
        reason=f"event {seq} could not be read from the disk",
    )


def _fill(after: int, rows: Iterable[tuple[int, bytes]], limit: int, size: int) -> Lease | None:
    """Take rows while they fit."""
    total = 0
    numbers: list[int] = []
    events: list[bytes] = []
    for seq, body in rows:
        if events and (len(events) >= limit or total + len(body) > size):
            break
        numbers.append(seq)
        events.append(body)
        total += len(body)
    if not events:
        return None
    has_holes = numbers[-1] - numbers[0] >= len(numbers)
    return Lease(after, numbers[0], tuple(events), tuple(numbers) if has_holes else None)
