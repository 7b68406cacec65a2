"""Group commit on real files: who gets what, when it is on the disk, and what a failure takes with it."""

from __future__ import annotations

import asyncio
import math
import shutil
import sqlite3
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import StorageClosed, StorageError
from edge_agent.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge_agent.store.database import Transaction

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(path: Path, *, hold_seconds: float | None = None) -> AsyncIterator[Database]:
    database = Database(path / "journal.db", hold_seconds=hold_seconds)
    database.open()
    try:
        yield database
    finally:
        await database.close()


def put(transaction: Transaction, name: str) -> str:
    transaction.execute("INSERT INTO about VALUES (?, 'x')", (name,))
    return name


def names(path: Path) -> set[str]:
    """Return what another process would see."""
    connection = sqlite3.connect(path / "journal.db")
    found = {name for (name,) in connection.execute("SELECT name FROM about WHERE value = 'x'")}
    connection.close()
    return found


async def test_a_result_comes_after_the_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        assert await database.commit(lambda transaction: put(transaction, "a")) == "a"
        assert names(tmp_path) == {"a"}


async def test_what_is_queued_is_committed_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        seen: list[set[str]] = []
        gate = threading.Event()
        blocked = database.submit(lambda _: gate.wait(5))
        first = database.submit(lambda transaction: put(transaction, "a"))

        def look(transaction: Transaction) -> None:
            seen.append(names(tmp_path))
            put(transaction, "b")

        second = database.submit(look)
        gate.set()
        await asyncio.gather(blocked, first, second)
        assert seen == [set()]  # the first was not committed alone


async def test_one_that_fails_does_not_disturb_the_others(tmp_path: Path) -> None:
    told: list[str] = []

    def write(transaction: Transaction, name: str) -> None:
        transaction.after_commit(lambda: told.append(name))
        put(transaction, name)
        if name == "bad":
            raise ValueError(name)

    async with opened(tmp_path) as database:
        gate = threading.Event()
        blocked = database.submit(lambda _: gate.wait(5))
        futures = [database.submit(partial(write, name=name)) for name in ("a", "bad", "b")]
        gate.set()
        await blocked
        results = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(results[1], ValueError)
    assert names(tmp_path) == {"a", "b"}
    assert told == ["a", "b"]


async def test_a_caller_that_is_cancelled_does_not_undo_its_work(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        task = asyncio.create_task(database.commit(lambda transaction: put(transaction, "a")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert names(tmp_path) == {"a"}


async def test_closing_commits_what_was_submitted_and_takes_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        for number in range(600):
            database.post(partial(put, name=f"n{number}"))
    assert len(names(tmp_path)) == 600
    with pytest.raises(StorageClosed):
        database.post(lambda transaction: put(transaction, "late"))


def state(path: Path) -> list[tuple[str, int, int]]:
    return [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(path.iterdir())]


async def test_idle_it_writes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        await database.commit(lambda transaction: put(transaction, "a"))
        before = state(tmp_path)
        await database.commit(lambda transaction: transaction.execute("SELECT * FROM about").fetchall())
        await database.commit(lambda transaction: transaction.execute("DELETE FROM ended WHERE at < 5"))
        assert state(tmp_path) == before


async def test_a_file_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="file is not a database"):
        Database(tmp_path / "journal.db").open()


async def test_a_file_that_shrank_gives_its_space_back(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    insert = "INSERT INTO journal (at, body) VALUES (?, ?)"
    async with opened(tmp_path) as database:
        for _ in range(5):
            rows = [(1, b"x" * 20_000)] * 200
            await database.commit(partial(executemany, sql=insert, rows=rows))
        assert file.stat().st_size > 15_000_000
        await database.commit(lambda transaction: transaction.execute("DELETE FROM journal"))
    assert file.stat().st_size < 4_000_000


async def test_a_file_that_is_half_in_use_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    insert = "INSERT INTO journal (at, body) VALUES (?, ?)"
    async with opened(tmp_path) as database:
        for _ in range(5):
            await database.commit(partial(executemany, sql=insert, rows=[(1, b"x" * 20_000)] * 200))
        await database.commit(lambda transaction: transaction.execute("DELETE FROM journal WHERE seq <= 500"))
    assert file.stat().st_size > 15_000_000  # what stands behind would have to be moved, and written again


def executemany(transaction: Transaction, sql: str, rows: list[tuple[int, bytes]]) -> None:
    transaction.executemany(sql, rows)


# -- gentle: answered at once, on the disk a little later --------------------------------------------------------------


async def test_gentle_answers_before_the_commit_and_commits_when_the_hub_is_away(tmp_path: Path) -> None:
    async with opened(tmp_path, hold_seconds=60) as database:
        database.allow_holding(True)  # noqa: FBT003
        told: list[str] = []
        await database.commit(partial(put_and_tell, name="a", told=told))
        assert told == ["a"]
        assert names(tmp_path) == set()
        assert await database.commit(lambda transaction: "a" in names_in(transaction))  # whoever reads here sees it
        database.allow_holding(False)  # noqa: FBT003
        await database.commit(lambda _: None, durable=True)
        assert names(tmp_path) == {"a"}
        await database.commit(lambda transaction: put(transaction, "b"))
        assert names(tmp_path) == {"a", "b"}  # until it is allowed again


async def test_gentle_commits_when_its_time_is_up_and_at_once_what_must_last(tmp_path: Path) -> None:
    async with opened(tmp_path, hold_seconds=0.2) as database:
        database.allow_holding(True)  # noqa: FBT003
        await database.commit(lambda transaction: put(transaction, "a"))
        assert names(tmp_path) == set()
        async with asyncio.timeout(10):
            while names(tmp_path) != {"a"}:  # noqa: ASYNC110  it is another process's view that changes
                await asyncio.sleep(0.02)
        await database.commit(lambda transaction: put(transaction, "b"))
        await database.commit(lambda transaction: put(transaction, "c"), durable=True)
        assert names(tmp_path) == {"a", "b", "c"}


async def test_gentle_commits_at_the_end(tmp_path: Path) -> None:
    async with opened(tmp_path, hold_seconds=60) as database:
        database.allow_holding(True)  # noqa: FBT003
        await database.commit(lambda transaction: put(transaction, "a"))
    assert names(tmp_path) == {"a"}


async def test_durable_holds_nothing_whatever_is_allowed(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        database.allow_holding(True)  # noqa: FBT003
        await database.commit(lambda transaction: put(transaction, "a"))
        assert names(tmp_path) == {"a"}


async def test_after_a_crash_of_gentle_no_number_is_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path, hold_seconds=60) as database:
        await database.commit(append)
        database.allow_holding(True)  # noqa: FBT003
        told = await database.commit(append)
        shutil.copytree(tmp_path, tmp_path.parent / "crashed")  # as the disk is when the power goes
    async with opened(tmp_path.parent / "crashed") as database:
        assert await database.commit(append) > told + 1000
    async with opened(tmp_path, hold_seconds=60) as database:
        assert await database.commit(append) == told + 1  # it ended in order


def put_and_tell(transaction: Transaction, name: str, told: list[str]) -> None:
    put(transaction, name)
    transaction.after_commit(partial(told.append, name))


def names_in(transaction: Transaction) -> set[str]:
    return {name for (name,) in transaction.execute("SELECT name FROM about")}


def append(transaction: Transaction) -> int:
    return transaction.execute("INSERT INTO journal (at, body) VALUES (1, x'00')").lastrowid or 0


async def test_it_says_for_how_long_its_writer_has_been_at_one_group(tmp_path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def hang(_: Transaction) -> None:
        begun.set()
        assert release.wait(10)

    async with opened(tmp_path) as database:
        assert database.stuck_seconds == 0.0
        piece = database.submit(hang)
        await asyncio.to_thread(begun.wait)
        first = database.stuck_seconds
        assert 0.0 < first < database.stuck_seconds
        release.set()
        await piece
    assert database.stuck_seconds == 0.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_died_without_a_word_is_stuck_for_ever(tmp_path: Path) -> None:
    def die(_: Transaction) -> None:
        raise KeyboardInterrupt  # it is nobody's result, as no other error is

    async with opened(tmp_path) as database:
        left = database.submit(die)
        assert database._thread  # noqa: SLF001
        await asyncio.to_thread(database._thread.join)  # noqa: SLF001
        assert not left.done()
        assert database.stuck_seconds == math.inf
