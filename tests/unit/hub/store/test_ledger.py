"""The one writer: many pieces of work in one transaction, each on its own."""

from __future__ import annotations

import asyncio
import math
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.exc import IntegrityError

from hub.errors import LedgerClosed
from hub.store.ledger import MAX_GROUP, Ledger
from hub.store.schema import streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine


@pytest.fixture
def ledger(engine: Engine) -> Iterator[Ledger]:
    opened = Ledger(engine)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def commits(engine: Engine) -> list[int]:
    """Counts the transactions that were committed."""
    counted: list[int] = []
    event.listen(engine, "commit", lambda _: counted.append(1))
    return counted


def put(connection: Connection, number: int) -> int:
    connection.execute(insert(streams).values(worker=f"w{number}", stream="st", committed_through=number))
    return number


def kept(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        query = select(streams.c.committed_through).order_by(streams.c.committed_through)
        return list(connection.execute(query).scalars())


class Held:
    """A piece of work that holds the writer until it is let go, so that others queue behind it."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()

    def __call__(self, _connection: Connection) -> None:
        self.began.set()
        assert self.release.wait(10)


async def test_a_result_comes_after_its_commit(ledger: Ledger, engine: Engine) -> None:
    assert await ledger.commit(partial(put, number=7)) == 7
    assert kept(engine) == [7]


async def test_what_queues_while_a_commit_is_under_way_shares_the_next(
    ledger: Ledger, engine: Engine, commits: list[int]
) -> None:
    held = Held()
    first = ledger.submit(held)
    await asyncio.to_thread(held.began.wait, 10)
    others = [ledger.submit(partial(put, number=number)) for number in range(50)]
    held.release.set()
    await first
    assert await asyncio.gather(*others) == list(range(50))
    assert len(commits) == 2
    assert kept(engine) == list(range(50))


async def test_a_group_is_not_endless(ledger: Ledger, commits: list[int]) -> None:
    held = Held()
    first = ledger.submit(held)
    await asyncio.to_thread(held.began.wait, 10)
    others = [ledger.submit(partial(put, number=number)) for number in range(MAX_GROUP + 1)]
    held.release.set()
    await asyncio.gather(first, *others)
    assert len(commits) == 3


async def test_a_piece_that_fails_takes_nothing_with_it(ledger: Ledger, engine: Engine, commits: list[int]) -> None:
    def half_done(connection: Connection) -> None:
        put(connection, 99)
        put(connection, 1)  # is there already

    held = Held()
    first = ledger.submit(held)
    await asyncio.to_thread(held.began.wait, 10)
    before, failing, after = (
        ledger.submit(partial(put, number=1)),
        ledger.submit(half_done),
        ledger.submit(partial(put, number=2)),
    )
    held.release.set()
    await asyncio.gather(first, before, after)
    with pytest.raises(IntegrityError):
        await failing
    assert kept(engine) == [1, 2]
    assert len(commits) == 2


async def test_any_exception_belongs_to_who_submitted_the_work(ledger: Ledger) -> None:
    def broken(_connection: Connection) -> None:
        msg = "broken"
        raise KeyError(msg)

    with pytest.raises(KeyError, match="broken"):
        await ledger.commit(broken)
    assert await ledger.commit(partial(put, number=1)) == 1


async def test_work_is_done_in_the_order_of_submission(ledger: Ledger) -> None:
    done: list[int] = []

    def note(_connection: Connection, number: int) -> None:
        done.append(number)

    pieces = [ledger.submit(partial(note, number=number)) for number in range(300)]
    await asyncio.gather(*pieces)
    assert done == list(range(300))


async def test_who_is_answered_first_submitted_first(ledger: Ledger) -> None:
    answered: list[int] = []

    async def commit(number: int) -> None:
        await ledger.commit(partial(put, number=number))
        answered.append(number)

    await asyncio.gather(*(commit(number) for number in range(100)))
    assert answered == list(range(100))


async def test_a_commit_that_fails_fails_its_pieces_and_no_more(ledger: Ledger, engine: Engine) -> None:
    def refuse(_connection: Connection) -> None:
        msg = "the disk is full"
        raise OSError(msg)

    held = Held()
    first = ledger.submit(held)
    await asyncio.to_thread(held.began.wait, 10)
    event.listen(engine, "commit", refuse, once=True)
    pieces = [ledger.submit(partial(put, number=number)) for number in range(3)]
    held.release.set()
    with pytest.raises(OSError, match="full"):
        await first
    assert await asyncio.gather(*pieces) == [0, 1, 2]
    assert kept(engine) == [0, 1, 2]


async def test_a_caller_that_is_cancelled_does_not_undo_the_work(ledger: Ledger, engine: Engine) -> None:
    held = Held()
    first = ledger.submit(held)
    await asyncio.to_thread(held.began.wait, 10)
    caller = asyncio.create_task(ledger.commit(partial(put, number=1)))
    await asyncio.sleep(0)  # let it submit
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    held.release.set()
    await first
    await ledger.commit(partial(put, number=2))
    assert kept(engine) == [1, 2]


async def test_a_closed_ledger_takes_no_more(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.open()
    ledger.close()
    with pytest.raises(LedgerClosed):
        await ledger.commit(partial(put, number=1))
    assert kept(engine) == []


async def test_closing_commits_what_was_submitted(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.open()
    pieces = [ledger.submit(partial(put, number=number)) for number in range(MAX_GROUP + 5)]
    ledger.close()
    assert len(kept(engine)) == MAX_GROUP + 5
    await asyncio.gather(*pieces)


async def test_it_says_for_how_long_it_has_been_at_one_transaction(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.open()
    assert ledger.stuck_seconds == 0.0
    held = Held()
    piece = ledger.submit(held)
    await asyncio.to_thread(held.began.wait, 10)
    first = ledger.stuck_seconds
    assert 0.0 < first < ledger.stuck_seconds
    held.release.set()
    await piece
    await ledger.commit(partial(put, number=1))
    ledger.close()
    assert ledger.stuck_seconds == 0.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_died_is_stuck_for_ever(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.open()

    def die(_: Connection) -> None:
        raise KeyboardInterrupt  # it is nobody's result, as no other error is

    left = ledger.submit(die)
    await asyncio.to_thread(ledger._thread.join)  # noqa: SLF001
    assert not left.done()
    assert ledger.stuck_seconds == math.inf
    ledger.close()
