"""The journal and the inbox, across restarts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from broker.messages import Batch, FactObserved, ReplyTo, TaskSpec, Via, digest
from edge_agent import inbox
from edge_agent.database import Database
from edge_agent.journal import TAIL_EVENTS, Journal
from edge_agent.rules.attempts import Held, Known, Ref

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Database, Journal]]:
    database = Database(path / "journal.db")
    database.open()
    journal = Journal(database)
    await journal.load()
    try:
        yield database, journal
    finally:
        await database.close()


def fact(number: int, size: int = 1) -> FactObserved:
    return FactObserved(at=1000 + number, subject="s", name=f"n{number}", value="x" * size)


async def write(database: Database, journal: Journal, *events: FactObserved) -> None:
    await database.commit(lambda transaction: journal.append(transaction, events))


async def settled(database: Database, journal: Journal, through: int) -> None:
    journal.settle(through)
    await database.commit(lambda _: None)


async def test_a_lease_stays_until_it_is_settled(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, fact(1), fact(2), fact(3))
        for _ in range(2):
            lease = await journal.lease(after=0)
            assert lease
            assert (lease.first, lease.last) == (1, 3)
            assert Batch.model_validate_json(lease.payload(journal.stream)).events == (fact(1), fact(2), fact(3))
        await settled(database, journal, 2)
        lease = await journal.lease(after=0)
        assert lease
        assert lease.first == 3
        assert (journal.depth.rows, journal.depth.oldest_at) == (1, 1003)


async def test_it_is_as_it_was_after_a_restart_and_numbers_are_never_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, fact(1), fact(2))
        before = journal.stream, journal.depth, journal.position
    async with opened(tmp_path) as (database, journal):
        assert (journal.stream, journal.depth, journal.position) == before
        await settled(database, journal, 2)
        assert (journal.depth.rows, journal.depth.bytes, journal.depth.oldest_at) == (0, 0, None)
    async with opened(tmp_path) as (database, journal):
        assert (journal.position.oldest, journal.position.newest) == (3, 2)
        await write(database, journal, fact(3))
        assert journal.newest == 3


async def test_a_batch_is_bounded_by_events_and_by_bytes_but_never_empty(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, *(fact(number) for number in range(10)), fact(10, 200_000), fact(11))
        sizes = []
        after = 0
        while lease := await journal.lease(after=after, limit=8):
            sizes.append(len(lease.events))
            after = lease.last
        assert sizes == [8, 2, 1, 1]


async def test_what_is_older_than_memory_comes_from_the_disk_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, *(fact(number) for number in range(TAIL_EVENTS + 1000)))
        after, found = 0, []
        while lease := await journal.lease(after=after):
            found += list(Batch.model_validate_json(lease.payload("s")).events)
            after = lease.last
        assert found == [fact(number) for number in range(TAIL_EVENTS + 1000)]


async def test_a_hole_ends_a_batch(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, *(fact(number) for number in range(6)))
        await database.commit(lambda transaction: transaction.execute("DELETE FROM journal WHERE seq = 3"))
    async with opened(tmp_path) as (_, journal):
        first, second = await journal.lease(after=0), await journal.lease(after=2)
        assert first
        assert second
        assert ((first.first, first.last), (second.first, second.last)) == ((1, 2), (4, 6))


def held(task: str, attempt: int = 1, **more: object) -> Held:
    spec = TaskSpec.model_validate({"kind": "noop", "params": {"task": task}, **more})
    return Held(
        Ref(task, attempt), spec, digest(spec), 5, Via.SITE, ReplyTo(topic="edge/v1/replies/x", correlation="AA==")
    )


async def test_the_inbox_keeps_what_is_held_and_remembers_what_ended(tmp_path: Path) -> None:
    one, two = held("one", priority=3, requires={"a": {"min": 2}}), held("two", 4)
    async with opened(tmp_path) as (database, _):
        await database.commit(partial(inbox.hold, attempts=[one, two]))
        await database.commit(partial(inbox.mark_running, refs=[two.ref]))
    async with opened(tmp_path) as (database, _):
        kept = await database.commit(inbox.held)
        assert kept[0] == one
        assert (kept[1].ref, kept[1].running) == (two.ref, True)
        await database.commit(partial(inbox.end, attempts=[two], at=1000))
    async with opened(tmp_path) as (database, _):
        known = await database.commit(partial(inbox.known, tasks=["one", "two", "three"]))
        assert known == {"one": Known(1, one.digest), "two": Known(4, two.digest)}
        assert await database.commit(partial(inbox.forget, before=1000)) == 0
        assert await database.commit(partial(inbox.forget, before=1001)) == 1
        assert await database.commit(partial(inbox.known, tasks=["two"])) == {}


async def test_an_older_attempt_that_ends_late_is_not_the_one_that_is_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, _):
        for attempt in (2, 1):
            await database.commit(partial(inbox.end, attempts=[held("t", attempt)], at=5))
        assert (await database.commit(partial(inbox.known, tasks=["t"])))["t"].attempt == 2
