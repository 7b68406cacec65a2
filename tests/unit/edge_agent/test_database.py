"""Group commit on real files: who gets what, when it is on the disk, and what a failure takes with it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from edge_agent.database import Database
from edge_agent.errors import StorageClosed, StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge_agent.database import Transaction

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    database = Database(path / "journal.db")
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


async def test_a_commit_that_fails_fails_everybody_and_the_next_one_works(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        await database.commit(lambda transaction: transaction.execute("PRAGMA max_page_count = 30"))
        with pytest.raises((StorageError, sqlite3.OperationalError)):
            await database.commit(lambda transaction: put(transaction, "x" * 1_000_000))
        await database.commit(lambda transaction: put(transaction, "small"))
    assert names(tmp_path) == {"small"}


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
