"""The durable, ordered log of everything that this worker reports; a row goes only with the hub's receipt.

A buffer is a transaction: `batch = await journal.lease(after=…)`, and later `journal.settle(through)`. What was not
settled is still there. Everything in memory here is changed in the event loop, once it is true on the disk.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broker.messages import JournalDepth, JournalPosition, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from broker.messages import Event
    from edge_agent.database import Database, Transaction

BATCH_EVENTS = 500
BATCH_BYTES = 128 * 1024
TAIL_EVENTS = 4096
TAIL_BYTES = 1024 * 1024
"""How much of the newest is kept in memory too, so that what is sent at once is not read back from the disk."""

_INSERT = "INSERT INTO journal (at, body) VALUES (?, ?)"
_LEASE = "SELECT seq, body FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
_SIZE = "SELECT count(*), coalesce(sum(length(body)), 0), coalesce(min(seq), 0), min(at) FROM journal"
_NEWEST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'journal'"


@dataclass(frozen=True, slots=True)
class Lease:
    """Events `first` to `last`, in order and without a hole, each as JSON."""

    first: int
    events: tuple[bytes, ...]

    @property
    def last(self) -> int:
        """The sequence number of the last event."""
        return self.first + len(self.events) - 1

    def payload(self, stream: str) -> bytes:
        """Return the events as a `broker.messages.Batch`."""
        head = f'{{"stream":"{stream}","first":{self.first},"events":['.encode()
        return head + b",".join(self.events) + b"]}"


@dataclass(frozen=True, slots=True)
class _State:
    stream: str
    rows: int
    size: int
    oldest: int
    oldest_at: int | None
    newest: int


class Journal:
    """The journal of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tail: dict[int, bytes] = {}
        self._tail_bytes = 0
        self.grown = asyncio.Event()
        self.stream = ""
        self._rows = 0
        self._size = 0
        self._oldest = 1
        self._oldest_at: int | None = None
        self.newest = 0

    async def load(self) -> None:
        """Read how the journal stands; once, before all else."""
        state = await self._database.commit(_read_state)
        self.stream, self.newest = state.stream, state.newest
        self._rows, self._size = state.rows, state.size
        self._oldest, self._oldest_at = state.oldest or state.newest + 1, state.oldest_at

    @property
    def depth(self) -> JournalDepth:
        """What waits: rows, bytes, and since when."""
        return JournalDepth(rows=self._rows, bytes=self._size, oldest_at=self._oldest_at)

    @property
    def position(self) -> JournalPosition:
        """What waits, by sequence numbers."""
        return JournalPosition(stream=self.stream, oldest=self._oldest, newest=self.newest)

    def append(self, transaction: Transaction, events: Sequence[Event]) -> None:
        """Write `events` within `transaction`."""
        written: list[tuple[int, int, bytes]] = []
        for event in events:
            body = encode(event)
            seq = transaction.execute(_INSERT, (event.at, body)).lastrowid or 0
            written.append((seq, event.at, body))
        transaction.after_commit(partial(self._on_appended, written))

    def post(self, *events: Event) -> None:
        """Write events that nobody waits for, from any thread."""
        self._database.post(lambda transaction: self.append(transaction, events))

    async def lease(self, *, after: int, limit: int = BATCH_EVENTS, size: int = BATCH_BYTES) -> Lease | None:
        """Return the events behind sequence number `after`: up to `limit` and about `size` bytes, at least one.

        They stay in the journal, and are there again for the next lease, until `settle`.
        """
        start = max(after + 1, self._oldest)
        if start > self.newest:
            return None
        if start in self._tail:
            return _fill(self._from_tail(start), limit, size)
        rows: list[tuple[int, bytes]] = await self._database.commit(
            lambda transaction: transaction.execute(_LEASE, (start - 1, limit)).fetchall()
        )
        return _fill(rows, limit, size)

    def settle(self, through: int) -> None:
        """Forget everything up to `through`: the hub has committed it."""
        if through >= self._oldest:
            self._database.post(partial(self._delete, through=through))

    def _delete(self, transaction: Transaction, through: int) -> None:
        where = "FROM journal WHERE seq <= ?"
        size: int
        (size,) = transaction.execute(f"SELECT coalesce(sum(length(body)), 0) {where}", (through,)).fetchone()
        rows = transaction.execute(f"DELETE {where}", (through,)).rowcount
        oldest = transaction.execute("SELECT seq, at FROM journal ORDER BY seq LIMIT 1").fetchone()
        transaction.after_commit(partial(self._on_deleted, through, rows, size, oldest))

    def _on_appended(self, written: list[tuple[int, int, bytes]]) -> None:
        for seq, at, body in written:
            self._rows += 1
            self._size += len(body)
            self.newest = seq
            if self._rows == 1:
                self._oldest, self._oldest_at = seq, at
            self._tail[seq] = body
            self._tail_bytes += len(body)
        while len(self._tail) > TAIL_EVENTS or self._tail_bytes > TAIL_BYTES:
            self._tail_bytes -= len(self._tail.pop(next(iter(self._tail))))
        self.grown.set()

    def _on_deleted(self, through: int, rows: int, size: int, oldest: tuple[int, int] | None) -> None:
        self._rows -= rows
        self._size -= size
        self._oldest, self._oldest_at = oldest or (self.newest + 1, None)
        while self._tail and (seq := next(iter(self._tail))) <= through:
            self._tail_bytes -= len(self._tail.pop(seq))

    def _from_tail(self, start: int) -> Iterator[tuple[int, bytes]]:
        seq = start
        while (body := self._tail.get(seq)) is not None:
            yield seq, body
            seq += 1


def _read_state(transaction: Transaction) -> _State:
    (stream,) = transaction.execute("SELECT value FROM about WHERE name = 'stream'").fetchone()
    rows, size, oldest, _ = transaction.execute(_SIZE).fetchone()
    first = transaction.execute("SELECT at FROM journal ORDER BY seq LIMIT 1").fetchone()
    (newest,) = transaction.execute(_NEWEST).fetchone()
    return _State(stream, rows, size, oldest, first[0] if first else None, newest)


def _fill(rows: Iterable[tuple[int, bytes]], limit: int, size: int) -> Lease | None:
    """Take rows while they follow each other and fit."""
    first, total = 0, 0
    events: list[bytes] = []
    for seq, body in rows:
        first = first or seq
        fits = len(events) < limit and (total + len(body) <= size or not events)
        if not fits or seq != first + len(events):
            break
        events.append(body)
        total += len(body)
    return Lease(first, tuple(events)) if events else None
