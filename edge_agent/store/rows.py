"""The rows of a journal, as SQL: what is done within a transaction. `edge_agent.store.journal` knows what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from broker.clock import now_ms
from broker.messages import EVENT, Dropped, Gap, encode
from edge_agent.rules.eviction import Class, class_of, cut
from edge_agent.store import notes

if TYPE_CHECKING:
    from broker.messages import Event
    from edge_agent.rules.eviction import Slice
    from edge_agent.store.transaction import Transaction

_INSERT = "INSERT INTO journal (at, body, class) VALUES (?, ?, ?)"
# A bit that flips in a row's head can turn a blob into anything.
_READ = "SELECT seq, coalesce(CAST(body AS BLOB), x'') FROM journal WHERE seq >= ? ORDER BY seq LIMIT ?"
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

Row = tuple[int, int, bytes]
"""Number, time and body of an event."""


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits, read within a transaction."""

    rows: int = 0
    size: int = 0
    oldest: int | None = None
    oldest_at: int | None = None

    def and_also(self, written: list[Row]) -> Depth:
        """Return the depth when these rows have come."""
        first, at, _ = written[0]
        size = self.size + sum(len(body) for _, _, body in written)
        if self.oldest is None:
            return Depth(len(written), size, first, at)
        return Depth(self.rows + len(written), size, self.oldest, self.oldest_at)


@dataclass(frozen=True, slots=True)
class State:
    """How a journal stands.

    Attributes:
        stream: What its numbers belong to.
        newest: The highest number.
        settled: The highest one that ever had a receipt.
        depth: What waits.
        is_new: Whether it has never been at the broker.

    """

    stream: str
    newest: int
    settled: int
    depth: Depth
    is_new: bool


def state(transaction: Transaction) -> State:
    """Return how the journal stands."""
    (stream,) = transaction.execute(_ABOUT, ("stream",)).fetchone()
    (settled,) = transaction.execute(_ABOUT, ("settled",)).fetchone()
    (newest,) = transaction.execute(_NEWEST).fetchone()
    return State(stream, newest, int(settled), depth(transaction), notes.is_new(transaction))


def depth(transaction: Transaction) -> Depth:
    """Return what waits. Nothing is counted: the file keeps its sums."""
    return Depth(*transaction.execute(_DEPTH).fetchone())


def size(transaction: Transaction) -> int:
    """Return how many bytes wait."""
    found: int = transaction.execute(_SIZE).fetchone()[0]
    return found


def insert(transaction: Transaction, event: Event) -> Row:
    """Write an event, and return its row."""
    body = encode(event)
    seq = transaction.execute(_INSERT, (event.at, body, int(class_of(event)))).lastrowid or 0
    return seq, event.at, body


def read(transaction: Transaction, start: int, limit: int) -> list[tuple[int, bytes]]:
    """Return numbers and bodies from `start` on."""
    return transaction.execute(_READ, (start, limit)).fetchall()


def delete(transaction: Transaction, seq: int) -> None:
    """Delete one row."""
    transaction.execute("DELETE FROM journal WHERE seq = ?", (seq,))


def settle(transaction: Transaction, through: int, most: int) -> int:
    """Note a receipt, and delete at `most` so many of its rows, the oldest first; return up to which they are gone."""
    last = transaction.execute(_LAST_OF_SLICE, (through, most - 1)).fetchone()
    upto: int = last[0] if last else through
    transaction.execute("DELETE FROM journal WHERE seq <= ?", (upto,))
    transaction.execute(_SETTLED, (through,))
    return upto


def drop(transaction: Transaction, kind: Class, wanted: int, most: int) -> Slice | None:
    """Delete about `wanted` bytes of a class, the oldest first, and at `most` so many rows."""
    found = transaction.execute(_OF_CLASS if kind >= Class.RESULTS else _OF_LOW_CLASS, (int(kind),))
    gone = cut(found, wanted, most)
    if gone is not None:
        transaction.executemany("DELETE FROM journal WHERE seq = ?", [(seq,) for seq in gone.numbers])
    return gone


def begin_stream(transaction: Transaction, stream: str) -> None:
    """Give what waits to another stream, of which there was no receipt yet."""
    transaction.execute("UPDATE about SET value = ? WHERE name = 'stream'", (stream,))
    transaction.execute("UPDATE about SET value = 0 WHERE name = 'settled'")


def mend(transaction: Transaction, first: int, last: int) -> dict[int, bytes]:
    """Put a gap in place of each event from `first` to `last` that cannot be read; return the new bodies."""
    mended: dict[int, bytes] = {}
    for seq, at, body in transaction.execute(_RANGE, (first, last)).fetchall():
        if not _is_event(body):
            mended[seq] = encode(_unreadable(seq, at))
    transaction.executemany(
        "UPDATE journal SET body = ?, class = ? WHERE seq = ?",
        [(body, int(Class.MARKS), seq) for seq, body in mended.items()],
    )
    return mended


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
