"""Disks that are full, and files that are damaged: real ones, under a running agent."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from broker.clock import now_ms
from broker.messages import (
    AnyEvent,
    Batch,
    Dropped,
    FactObserved,
    Gap,
    IncidentRaised,
    Outcome,
    TaskFinished,
    TaskProgress,
    TaskSpec,
    WorkerStarted,
    digest,
)
from edge_agent.errors import StorageError
from edge_agent.rules.attempts import Held, Known, Ref
from edge_agent.store import inbox
from edge_agent.store.aside import KEPT_FILES, begin_anew, files_set_aside
from edge_agent.store.database import Database
from edge_agent.store.journal import DISK_FULL, Journal
from edge_agent.store.reserve import RESERVE_BYTES
from tests.support.needs import missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from edge_agent.app import App
    from tests.integration.edge_agent.stage import Stage

pytestmark = pytest.mark.anyio

DISK_BYTES = 6 * 1024 * 1024
PATIENCE_SECONDS = 40.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MB, of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("the right to mount a file system (root)")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Fill a disk, as a log that nobody rotates would."""
    log = disk / "somebody-elses.log"
    with log.open("ab") as file:
        while (free := shutil.disk_usage(disk).free - leave) > 0:
            try:
                file.write(b"x" * min(free, 65536))
                file.flush()
            except OSError:
                break
    return log


@asynccontextmanager
async def opened(folder: Path, *, hold_seconds: float | None = None) -> AsyncIterator[tuple[Database, Journal]]:
    database = Database(folder / "journal.db", hold_seconds=hold_seconds)
    database.open()
    journal = Journal(database)
    await journal.load()
    try:
        yield database, journal
    finally:
        await database.close()


def fact(number: int, size: int = 1000) -> FactObserved:
    return FactObserved(at=1000 + number, subject="s", name=f"n{number}", value="x" * size)


def result(number: int, size: int = 1000) -> TaskFinished:
    return TaskFinished(at=1000 + number, task=f"t{number}", attempt=1, outcome=Outcome.SUCCEEDED, result="x" * size)


def progress(number: int) -> TaskProgress:
    return TaskProgress(at=1000 + number, task=f"t{number}", attempt=1, fraction=0.5)


async def all_events(journal: Journal) -> list[AnyEvent]:
    found: list[AnyEvent] = []
    after = 0
    while lease := await journal.lease(after=after):
        found += Batch.model_validate_json(lease.payload("s")).events
        after = lease.last
    return found


async def store_until_full(database: Database, journal: Journal) -> int:
    """Store results one by one; return how many were."""
    for number in range(5000):
        try:
            await database.commit(partial(journal.append, events=[result(number)]))
        except StorageError as error:
            assert "full" in error.reason  # noqa: PT017  it is what ends the loop
            return number
    raise AssertionError("the disk is not full")


async def until(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not look():  # noqa: ASYNC110  what it waits for is in another thread, and tells nobody
            await asyncio.sleep(0.02)


async def test_on_a_full_disk_facts_make_room_for_results(small_disk: Path) -> None:
    async with opened(small_disk) as (database, journal):
        for number in range(1500):  # what goes first lies between what stays: it is on every page of the file
            await database.commit(partial(journal.append, events=[fact(number), progress(number), result(number, 200)]))
        fill(small_disk)
        for number in range(1500, 3000):
            await database.commit(partial(journal.append, events=[result(number, 200)]))
        assert not database.full
        events = await all_events(journal)
    results = [event for event in events if isinstance(event, TaskFinished)]
    assert results == [result(number, 200) for number in range(3000)]
    gaps = [event for event in events if isinstance(event, Gap)]
    assert {gap.reason for gap in gaps} == {DISK_FULL}
    kept = [event for event in events if isinstance(event, FactObserved)]
    assert kept == [fact(number) for number in range(1500 - len(kept), 1500)]
    assert len(kept) + sum(gap.count or 0 for gap in gaps if gap.dropped is Dropped.FACTS) == 1500
    assert sum(gap.count or 0 for gap in gaps if gap.dropped is Dropped.PROGRESS) == 1500  # they go before any fact


async def test_results_are_never_dropped_for_room_and_it_goes_on_when_there_is_some(small_disk: Path) -> None:
    async with opened(small_disk) as (database, journal):
        log = fill(small_disk)
        stored = await store_until_full(database, journal)
        assert database.full
        assert stored > 0  # what the reserve had room for
        for _ in range(2):  # a few bytes always fit somewhere: the disk is full all the same
            await database.commit(lambda transaction: transaction.execute("UPDATE about SET value = value"))
        assert database.full
        for number in range(10):
            journal.post(fact(number, 50_000))
        journal.settle(1)
        with pytest.raises(StorageError, match="full"):
            await database.commit(partial(journal.append, events=[result(9999, 300_000)]))
        await until(lambda: journal.settled == 1)  # what only makes room fits
        log.unlink()
        await until(lambda: not database.full)
        events = await all_events(journal)
    assert [event for event in events if isinstance(event, TaskFinished)] == [result(n) for n in range(1, stored)]
    told = [event for event in events if isinstance(event, Gap)]
    facts = [event for event in events if isinstance(event, FactObserved)]
    assert len(facts) + sum(gap.count or 0 for gap in told) == 10
    assert {(gap.dropped, gap.reason) for gap in told} == {(Dropped.FACTS, DISK_FULL)}


async def test_the_reserve_is_made_where_there_is_room_and_not_where_there_is_none(small_disk: Path) -> None:
    (small_disk / "roomy").mkdir()
    async with opened(small_disk / "roomy"):
        pass
    assert (small_disk / "roomy" / "reserve").stat().st_size == RESERVE_BYTES
    fill(small_disk, leave=RESERVE_BYTES + 500_000)
    async with opened(small_disk / "tight"):
        pass
    assert not (small_disk / "tight" / "reserve").exists()


async def test_it_starts_on_a_full_disk_by_its_reserve(small_disk: Path) -> None:
    async with opened(small_disk) as (database, journal):
        await database.commit(partial(journal.append, events=[result(1)]))
    fill(small_disk)
    async with opened(small_disk) as (database, journal):
        await database.commit(partial(journal.append, events=[result(2)]))
        assert await all_events(journal) == [result(1), result(2)]


async def test_what_gentle_has_answered_is_stored_when_there_is_room_again(small_disk: Path) -> None:
    async with opened(small_disk, hold_seconds=60) as (database, journal):
        database.allow_holding(True)  # noqa: FBT003
        for number in range(100):
            await database.commit(partial(journal.append, events=[result(number)]))
        log = fill(small_disk)
        (small_disk / "reserve").unlink()
        fill(small_disk)
        with pytest.raises(StorageError, match="full"):
            await database.commit(partial(journal.append, events=[result(9999, 900_000)]), durable=True)
        assert database.full
        log.unlink()
        await until(lambda: not database.full)
        await database.commit(partial(journal.append, events=[result(100)]), durable=True)
        assert journal.newest == 101
    async with opened(small_disk) as (_, journal):
        assert await all_events(journal) == [result(number) for number in range(101)]


async def test_on_a_full_disk_what_waits_is_read_and_its_receipts_make_room(small_disk: Path) -> None:
    """Beside a write that the disk refuses again and again."""
    async with opened(small_disk) as (database, journal):
        await database.commit(partial(journal.append, events=[result(number, 20_000) for number in range(100)]))
    async with opened(small_disk) as (database, journal):
        fill(small_disk)
        stored = await store_until_full(database, journal)
        waiting = asyncio.create_task(until_stored(database, journal, result(-1, 250_000)))
        read = 0
        while read < 100:
            lease = await journal.lease(after=read)
            assert lease
            read = lease.last
        assert database.full
        journal.settle(read)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await waiting
        assert journal.settled == read
        assert journal.newest == 100 + stored + 1


async def until_stored(database: Database, journal: Journal, event: AnyEvent) -> None:
    """Store an event, however often the disk refuses it."""
    while True:
        try:
            await database.commit(partial(journal.append, events=[event]))
        except StorageError:
            await asyncio.sleep(0.1)
        else:
            return


async def test_an_agent_on_a_full_disk_says_so_takes_nothing_and_goes_on_by_itself(
    stage: Stage, small_disk: Path
) -> None:
    async with stage.synced(offline_dir=small_disk / "w", heartbeat_interval_seconds=60) as app:
        worker = app.name.worker
        await idle(app)
        before = stage.hub.births(worker)[-1].intake
        stage.hub.receipts = False
        log = fill(small_disk)
        (small_disk / "w" / "reserve").unlink(missing_ok=True)
        fill(small_disk)
        for number in range(200):  # some fit into what the file has free
            await stage.hub.inject_to(worker, {"id": f"t{number}", "kind": "noop", "params": {"x": "x" * 5_000}})
        await stage.hub.until(lambda: stage.hub.heartbeats(worker)[-1].storage == "full")
        await until(lambda: not app.online.is_set())
        stage.hub.receipts = True
        log.unlink()
        await stage.hub.until(lambda: stage.hub.heartbeats(worker)[-1].storage == "ok")
        await stage.hub.until(lambda: len(stage.hub.finished()) == 200)
        await stage.hub.until(lambda: stage.hub.births(worker)[-1].intake != before)
        await app.online.wait()
    assert {end.outcome for end in stage.hub.finished().values()} == {Outcome.SUCCEEDED}


# -- starts ------------------------------------------------------------------------------------------------------------


async def test_the_journal_has_the_room_of_old_logs(stage: Stage, small_disk: Path) -> None:
    async with stage.synced(offline_dir=small_disk / "offline", allow_commands=("head **",)) as app:
        flood = {"id": "flood", "kind": "command", "params": {"argv": ["head", "-c", "2000000", "/dev/zero"]}}
        await stage.hub.inject(flood)
        assert (await stage.hub.ended("flood")).outcome is Outcome.SUCCEEDED
        assert (await app.logs.read(Ref("flood", 1), 0, limit=1)).size == 2_000_000
        fill(small_disk)
        for number in range(30):  # more than the reserve has room for
            task = {"id": f"t{number}", "kind": "noop", "params": {"fill": "x" * 50_000}}
            await stage.hub.inject_to(app.name.worker, task)
        for number in range(30):
            assert (await stage.hub.ended(f"t{number}")).outcome is Outcome.SUCCEEDED
        await until(lambda: not app.database.full)
        assert not (await app.logs.read(Ref("flood", 1), 0, limit=1)).is_kept


async def test_each_start_says_first_whose_clock_counts(stage: Stage) -> None:
    for _ in range(2):
        async with stage.synced() as app:
            boot = stage.hub.births(app.name.worker)[-1].boot
            await stage.hub.until(lambda boot=boot: begun(stage.hub.events(), boot))  # type: ignore[misc]
            await idle(app)
    assert [event.type for event in stage.hub.events()] == ["worker.started"] * 2


async def test_a_start_after_a_crash_of_gentle_mode_says_what_may_be_missing(stage: Stage) -> None:
    async with stage.synced(buffer_mode="gentle", buffer_hold_seconds=7) as app:
        await idle(app)
        shutil.copytree(app.settings.offline_dir, stage.directory / "crashed")  # as the disk is when the power goes
    stage.hub.seen.clear()
    async with stage.synced("crashed") as app:
        await idle(app)
        events = stage.hub.events()
    # The first run's own start is told again: that its receipt had come was only in memory.
    assert [event.type for event in events] == ["worker.started", "worker.started", "gap"]
    gap = events[-1]
    assert isinstance(gap, Gap)
    assert (gap.dropped, gap.count) == (Dropped.RECENT, None)
    assert gap.reason == "gentle mode: up to 7 s of events may be missing after a crash"
    assert [number > 1_000_000 for batch in stage.hub.batches() for number, _ in batch.numbered()] == [
        False,
        True,
        True,
    ]


# -- damage ------------------------------------------------------------------------------------------------------------


def damage(file: Path) -> None:
    """Overwrite the pages behind the first with noise, in the file and under whoever has it open."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    with file.open("r+b") as pages:
        pages.seek(4096)
        pages.write(os.urandom(file.stat().st_size - 4096))
        pages.flush()
        os.fsync(pages.fileno())


def begun(events: list[AnyEvent], boot: str) -> list[AnyEvent]:
    """Return what was told from the beginning of a boot on."""
    marks = [number for number, event in enumerate(events) if isinstance(event, WorkerStarted) and event.boot == boot]
    return events[marks[0] :] if marks else []


async def test_an_agent_whose_file_is_no_database_sets_it_aside_and_is_online(stage: Stage) -> None:
    file = stage.directory / "w" / "journal.db"
    file.parent.mkdir()
    file.write_bytes(b"no database" * 1000)
    async with stage.synced() as app:
        birth = stage.hub.births(app.name.worker)[-1]
        await stage.hub.until(lambda: any(isinstance(one, IncidentRaised) for one in stage.hub.events()))
        told = begun(stage.hub.events(), birth.boot)
    _assert_told(told, files_set_aside(file))


def _assert_told(told: list[AnyEvent], files: list[Path]) -> None:
    assert [event.type for event in told[:3]] == ["worker.started", "gap", "incident.raised"]
    assert isinstance(told[1], Gap)
    assert isinstance(told[2], IncidentRaised)
    assert len(files) == 1
    assert files[0].name in told[1].reason
    assert (told[1].dropped, told[1].count) == (Dropped.EVERYTHING, None)
    assert (told[2].incident, told[2].severity) == ("journal_corrupt", "error")
    assert files[0].name in told[2].summary


async def test_a_file_that_is_damaged_under_a_running_agent_is_replaced_within_seconds(stage: Stage) -> None:
    async with stage.synced() as app:
        worker = app.name.worker
        await stage.hub.inject({"kind": "noop", "id": "before"})
        await stage.hub.ended("before")
        old = stage.hub.births(worker)[-1]
        await idle(app)
        damage(app.settings.database)
        began = asyncio.get_running_loop().time()
        await spoil(stage, app)
        await stage.hub.until(lambda: stage.hub.births(worker)[-1].boot != old.boot)
        assert asyncio.get_running_loop().time() - began < 5
        new = await stage.hub.sync(worker)
        assert new.journal.stream != old.journal.stream
        await until(app.online.is_set)
        await stage.hub.inject({"kind": "noop", "id": "after"})
        assert (await stage.hub.ended("after")).outcome is Outcome.SUCCEEDED
        _assert_told(begun(stage.hub.events(), new.boot), files_set_aside(app.settings.database))


async def idle(app: App) -> None:
    """Wait until all that was told has its receipt."""
    await until(lambda: app.journal.depth.rows == 0)


async def spoil(stage: Stage, app: App) -> None:
    """Give the agent reasons to look at its file, until it finds the damage behind what SQLite has in its cache."""
    for number in range(200):
        if files_set_aside(app.settings.database):
            return
        await stage.hub.inject({"kind": "noop", "id": f"during-{number}"})
        await asyncio.sleep(0.02)


async def test_tasks_that_ran_are_known_after_the_file_was_set_aside(tmp_path: Path) -> None:
    spec = TaskSpec(kind="noop")
    ended, waiting = (Held(Ref(name, 2), spec, digest(spec), 1000) for name in ("ended", "waiting"))
    async with opened(tmp_path) as (database, journal):
        await database.commit(partial(journal.append, events=[result(number) for number in range(2000)]))
        await database.commit(partial(inbox.end, attempts=[ended], at=now_ms()))
        await database.commit(partial(inbox.hold, attempts=[waiting]))
        pages = await database.commit(partial(_pages_of, table="journal"))
    with (tmp_path / "journal.db").open("r+b") as file:
        file.seek((pages - 1) * 4096)
        file.write(os.urandom(4096))
    begin_anew(tmp_path / "journal.db", "malformed")
    async with opened(tmp_path) as (database, _):
        found = await database.commit(partial(inbox.known, tasks=["ended", "waiting"]))
        assert await database.commit(inbox.held) == []
    assert found == {"ended": Known(2, ended.digest), "waiting": Known(2, waiting.digest)}


def _pages_of(transaction: Any, table: str) -> int:  # noqa: ANN401
    """Return the root page of a table."""
    row = transaction.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    return int(row[0])


async def test_only_the_newest_files_set_aside_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    names = []
    for number in range(KEPT_FILES + 2):
        file.write_bytes(b"%d" % number * 5000)
        names.append(begin_anew(file, "not a database"))
    assert files_set_aside(file) == names[2:]
