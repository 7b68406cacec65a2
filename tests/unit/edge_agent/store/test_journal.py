"""The journal and the inbox, across restarts."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from broker.messages import (
    Batch,
    Dropped,
    Event,
    FactObserved,
    Gap,
    JournalDepth,
    JournalPosition,
    Outcome,
    ReplyTo,
    TaskFinished,
    TaskProgress,
    TaskSpec,
    Via,
    digest,
    encode,
)
from edge_agent.rules.attempts import Held, Known, Ref
from edge_agent.store import inbox, rows
from edge_agent.store.database import Database
from edge_agent.store.journal import Journal
from edge_agent.store.tail import TAIL_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.messages import AnyEvent
    from edge_agent.store.database import Transaction

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(path: Path, **options: int) -> AsyncIterator[tuple[Database, Journal]]:
    database = Database(path / "journal.db")
    database.open()
    journal = Journal(database, **options)
    await journal.load()
    try:
        yield database, journal
    finally:
        await database.close()


def fact(number: int, size: int = 1) -> FactObserved:
    return FactObserved(at=1000 + number, subject="s", name=f"n{number}", value="x" * size)


def finished(number: int) -> TaskFinished:
    return TaskFinished(at=1000 + number, task=f"t{number}", attempt=1, outcome=Outcome.SUCCEEDED)


async def drained(journal: Journal) -> list[AnyEvent]:
    """Return all that waits."""
    found: list[AnyEvent] = []
    after = 0
    while lease := await journal.lease(after=after):
        found += Batch.model_validate_json(lease.payload(journal.stream)).events
        after = lease.last
    return found


async def write(database: Database, journal: Journal, *events: Event) -> None:
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


async def test_a_batch_names_its_numbers_where_some_are_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, *(fact(number) for number in range(1, 7)))
        await database.commit(lambda transaction: transaction.execute("DELETE FROM journal WHERE seq IN (1, 4)"))
    async with opened(tmp_path) as (_, journal):
        lease = await journal.lease(after=0)
        assert lease
        batch = Batch.model_validate_json(lease.payload(journal.stream))
        assert (batch.follows, batch.last) == (0, 6)
        assert [(number, event.at) for number, event in batch.numbered()] == [(n, 1000 + n) for n in (2, 3, 5, 6)]
        behind = await journal.lease(after=3)
        assert behind
        assert (behind.after, behind.first, behind.numbers) == (3, 5, None)
        assert Batch.model_validate_json(behind.payload("s")).follows == 3


async def test_what_had_a_receipt_is_known_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, fact(1), fact(2), fact(3))
        await settled(database, journal, 2)
        await settled(database, journal, 1)  # an old receipt, late
        await settled(database, journal, 9)  # and one of numbers that this file never gave
        assert journal.position.settled == 2
    async with opened(tmp_path) as (_, journal):
        assert journal.position == JournalPosition(stream=journal.stream, oldest=3, newest=3, settled=2)


async def test_a_new_stream_keeps_what_waits_under_its_numbers(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, fact(1), fact(2))
        await settled(database, journal, 1)
        old = journal.stream
        new = await journal.begin_stream()
        assert new != old
        assert journal.position == JournalPosition(stream=new, oldest=2, newest=2, settled=0)
        await settled(database, journal, 2)
    async with opened(tmp_path) as (_, journal):
        assert journal.position == JournalPosition(stream=new, oldest=3, newest=2, settled=2)


async def test_over_its_limit_the_lowest_class_goes_first_with_one_gap(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=20_000) as (database, journal):
        results = [finished(number) for number in range(50)]
        await write(database, journal, *results)
        await write(database, journal, *(fact(number, 500) for number in range(30)))
        assert journal.depth.bytes <= 20_000
        events = await drained(journal)
    gaps = [event for event in events if isinstance(event, Gap)]
    kept = [event for event in events if isinstance(event, FactObserved)]
    assert [event for event in events if isinstance(event, TaskFinished)] == results
    assert [gap.dropped for gap in gaps] == [Dropped.FACTS]
    assert gaps[0].count == 30 - len(kept)
    assert kept == [fact(number, 500) for number in range(30 - len(kept), 30)]
    assert (gaps[0].first_at, gaps[0].last_at) == (1000, 1000 + gaps[0].count - 1)
    assert "WORKER_BUFFER_MAX_MB" in gaps[0].reason


async def test_results_go_last_and_are_told_as_well(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=10_000) as (database, journal):
        for number in range(300):
            await write(database, journal, finished(number))
        await write(database, journal, fact(1))
        events = await drained(journal)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert {gap.dropped for gap in gaps} == {Dropped.RESULTS}
    assert sum(gap.count or 0 for gap in gaps) + sum(isinstance(event, TaskFinished) for event in events) == 300
    assert len(gaps) == 1  # nobody has heard of it yet: it grows


async def test_a_large_journal_is_loaded_at_once_and_exactly(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        body = encode(fact(1))
        rows = [(1000 + number, body, 1) for number in range(200_000)]
        insert = "INSERT INTO journal (at, body, class) VALUES (?, ?, ?)"
        await database.commit(lambda transaction: transaction.executemany(insert, rows))
    database = Database(tmp_path / "journal.db")
    database.open()
    statements = await database.commit(_steps_of_a_load)
    journal = Journal(database)
    await journal.load()
    assert statements < 1000  # of SQLite's virtual machine: nothing is scanned
    assert journal.depth == JournalDepth(rows=200_000, bytes=200_000 * len(body), oldest_at=1000)
    journal.settle(150_000)
    while journal.depth.rows > 50_000:  # it goes in pieces
        await database.commit(lambda _: None)
    assert journal.depth == JournalDepth(rows=50_000, bytes=50_000 * len(body), oldest_at=151_000)
    await database.close()


def _steps_of_a_load(transaction: Transaction) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection = transaction._connection  # noqa: SLF001  SQLite counts by itself, on the connection
    connection.set_progress_handler(count, 1)
    rows.state(transaction)
    connection.set_progress_handler(None, 1)
    return steps


async def test_what_cannot_be_read_is_mended_in_place(tmp_path: Path) -> None:
    async with opened(tmp_path) as (database, journal):
        await write(database, journal, *(fact(number) for number in range(1, 6)))
        flip = "UPDATE journal SET body = CAST(replace(CAST(body AS TEXT), 'fact.observed', 'fact.observes') AS BLOB)"
        await database.commit(lambda transaction: transaction.execute(f"{flip} WHERE seq = 2"))
        await database.commit(
            lambda transaction: transaction.execute("UPDATE journal SET body = x'ff00' WHERE seq = 4")
        )
    async with opened(tmp_path) as (_, journal):
        assert await journal.mend(1, 5) == 2
        assert await journal.mend(1, 5) == 0
        events = await drained(journal)
    assert [event.type for event in events] == ["fact.observed", "gap", "fact.observed", "gap", "fact.observed"]
    assert isinstance(events[1], Gap)
    assert (events[1].dropped, events[1].count, events[1].at) == (Dropped.UNREADABLE, 1, 1002)


# -- whatever happens to a journal, all that was appended is leased or told as lost ------------------------------------

KINDS: dict[Dropped, type[Event]] = {
    Dropped.PROGRESS: TaskProgress,
    Dropped.FACTS: FactObserved,
    Dropped.RESULTS: TaskFinished,
}
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(list(KINDS)), st.integers(1, 400)),
        st.tuples(st.just("lease"), st.just(Dropped.FACTS), st.integers(1, 30)),
        st.tuples(st.just("reopen"), st.just(Dropped.FACTS), st.just(0)),
        st.tuples(st.just("make room"), st.just(Dropped.FACTS), st.just(0)),
        st.tuples(st.just("fail"), st.just(Dropped.FACTS), st.integers(1, 20)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(actions=ACTIONS, max_bytes=st.integers(600, 6000))
def test_what_was_appended_is_leased_or_told_as_lost_and_nothing_twice(
    actions: list[tuple[str, Dropped, int]], max_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder), actions, max_bytes))


async def play(folder: Path, actions: list[tuple[str, Dropped, int]], max_bytes: int) -> None:
    appended: list[Event] = []
    found: list[tuple[int, Event]] = []
    through = 0
    async with AsyncExitStack() as stack:
        database, journal = await stack.enter_async_context(opened(folder, max_bytes=max_bytes))
        for action, kind, number in [*actions, ("lease", Dropped.FACTS, 10_000)]:
            if action == "append":
                events = [event_of(kind, len(appended) + offset) for offset in range(1 + number % 12)]
                appended += events
                await database.commit(partial(journal.append, events=events))
            elif action == "lease":
                while (number := number - 1) >= 0 and (lease := await journal.lease(after=through, limit=7)):
                    batch = Batch.model_validate_json(lease.payload("s"))
                    assert batch.follows == through
                    found += batch.numbered()
                    through = lease.last
                    await settled(database, journal, through)
            elif action == "make room":
                await database.commit(database.make_room)
            elif action == "fail":
                with pytest.raises(ZeroDivisionError):
                    await database.commit(partial(_append_and_fail, journal=journal, count=number))
            else:
                await stack.aclose()
                database, journal = await stack.enter_async_context(opened(folder, max_bytes=max_bytes))
            await assert_depth(database, journal)
    numbers = [number for number, _ in found]
    assert numbers == sorted(set(numbers))
    for dropped, event_kind in KINDS.items():
        gaps = [event for _, event in found if isinstance(event, Gap) and event.dropped is dropped]
        kept = [event for _, event in found if isinstance(event, event_kind)]
        all_of_it = [event for event in appended if isinstance(event, event_kind)]
        assert kept == [event for event in all_of_it if event in kept]
        assert len(kept) + sum(gap.count or 0 for gap in gaps) == len(all_of_it)
        lost = [event.at for event in all_of_it if event not in kept]
        assert bool(lost) == bool(gaps)
        if lost:
            assert min(gap.first_at or 0 for gap in gaps) == lost[0]
            assert max(gap.last_at or 0 for gap in gaps) == lost[-1]


def event_of(kind: Dropped, number: int) -> Event:
    if kind is Dropped.PROGRESS:
        return TaskProgress(at=1000 + number, task="t", attempt=1, fraction=0.5)
    return fact(number) if kind is Dropped.FACTS else finished(number)


def _append_and_fail(transaction: Transaction, journal: Journal, count: int) -> None:
    journal.append(transaction, [fact(number) for number in range(count)])
    raise ZeroDivisionError


async def assert_depth(database: Database, journal: Journal) -> None:
    """See that what the journal says of itself is what the file holds."""
    sums = "SELECT count(*), coalesce(sum(length(body)), 0), min(at) FROM (SELECT * FROM journal ORDER BY seq)"
    first = "SELECT at FROM journal ORDER BY seq LIMIT 1"
    rows, size, _ = await database.commit(lambda transaction: transaction.execute(sums).fetchone())
    oldest = await database.commit(lambda transaction: transaction.execute(first).fetchone())
    assert journal.depth == JournalDepth(rows=rows, bytes=size, oldest_at=oldest[0] if oldest else None)


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
