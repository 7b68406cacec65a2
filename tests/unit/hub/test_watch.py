"""What other processes change is noticed by the trail that they leave."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

import hub.watch
from hub.rules.audit import Entry
from hub.store.audit import newest, write
from hub.store.changes import Changes
from hub.watch import Watch

if TYPE_CHECKING:
    from sqlalchemy import Engine


def act(engine: Engine, *actions: str) -> None:
    """Do something as another process would."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        write(connection, *(Entry("local:me", action) for action in actions))


class Heard:
    """Who listens."""

    def __init__(self) -> None:
        self.times = 0
        self.heard = asyncio.Event()
        self.fails = False

    async def __call__(self) -> None:
        if self.fails:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))
        self.times += 1
        self.heard.set()


async def test_who_listens_hears_of_their_own_family_once(engine: Engine) -> None:
    act(engine, "token.created")
    watch, tokens, accounts = Watch(engine), Heard(), Heard()
    watch.listen(tokens, "token")
    watch.listen(accounts, "account", "worker")
    with engine.connect() as connection:
        watch.load(connection)
    await watch.look()
    assert (tokens.times, accounts.times) == (0, 0)
    act(engine, "token.created", "token.revoked", "task.submitted")
    await watch.look()
    await watch.look()
    assert (tokens.times, accounts.times) == (1, 0)
    act(engine, "worker.revoked")
    await watch.look()
    assert (tokens.times, accounts.times) == (1, 1)


async def test_what_could_not_be_taken_in_is_tried_again(engine: Engine) -> None:
    watch, heard = Watch(engine), Heard()
    watch.listen(heard, "token")
    heard.fails = True
    act(engine, "token.created")
    with pytest.raises(OperationalError):
        await watch.look()
    heard.fails = False
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(10):
        await heard.heard.wait()
    running.cancel()
    assert heard.times == 1


async def test_where_nothing_was_written_the_trail_is_not_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = asyncio.Queue[int | None]()

    class Seen(Changes):
        def version(self) -> int | None:
            seen = super().version()
            looks.put_nowait(seen)
            return seen

    monkeypatch.setattr(hub.watch, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(hub.watch, "Changes", Seen)
    watch, heard, reads = Watch(engine), Heard(), list[str]()
    watch.listen(heard, "token")
    running = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(10):
            for _ in range(3):
                await looks.get()
            event.listen(engine, "before_cursor_execute", lambda *said: reads.append(said[2]))
            for _ in range(3):
                await looks.get()
            assert reads == []
            act(engine, "token.created")
            await heard.heard.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert any("audit" in statement for statement in reads)


async def test_a_database_that_cannot_be_glanced_at_is_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.watch, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Changes, "version", lambda _self: None)
    watch, heard = Watch(engine), Heard()
    watch.listen(heard, "token")
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(10):
        while not heard.times:
            act(engine, "token.created")
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])


def test_each_commit_of_another_connection_is_another_version_and_a_read_is_none(engine: Engine) -> None:
    with contextlib.closing(Changes(engine)) as changes:
        first = changes.version()
        with engine.connect() as connection:
            newest(connection)
        assert changes.version() == first
        act(engine, "token.created")
        assert changes.version() != first
