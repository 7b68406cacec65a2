"""Files of earlier releases: they open, and lose nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from sqlite_utils import Database as Tools

from broker.messages import NO_REVISION, TaskSpec, encode
from edge_agent.rules.attempts import Held, Ref
from edge_agent.store import inbox, schedules
from edge_agent.store.schedules import KeptMark
from edge_agent.store.schema import migrations
from edge_agent.store.sqlite import SCHEMA_VERSION, connect
from edge_agent.store.transaction import Transaction

if TYPE_CHECKING:
    from pathlib import Path


def file_of_version_3(path: Path) -> str:
    """Make a file as the second release left it, with a task that is held, and return its stream."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        migrations.apply(Tools(connection), stop_before="schedules")
        connection.execute("PRAGMA user_version = 3")
        spec = TaskSpec(kind="noop")
        inbox.hold(Transaction(connection), [Held(Ref("t1", 1), spec, "d", 1000)])
        connection.execute("INSERT INTO journal (at, body) VALUES (1, ?)", (encode(spec),))
        stream: str = connection.execute("SELECT value FROM about WHERE name = 'stream'").fetchone()[0]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert not tables & {"schedule_marks", "pushed_schedules"}
    return stream


def test_a_file_of_the_second_release_gets_its_schedules_and_keeps_what_it_has(tmp_path: Path) -> None:
    stream = file_of_version_3(tmp_path / "journal.db")

    with closing(connect(tmp_path / "journal.db")) as connection:
        transaction = Transaction(connection)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("SELECT value FROM about WHERE name = 'stream'").fetchone() == (stream,)
        assert [held.ref for held in inbox.held(transaction)] == [Ref("t1", 1)]
        assert connection.execute("SELECT count(*) FROM journal").fetchone() == (1,)
        assert schedules.marks(transaction) == {}
        assert schedules.pushed(transaction).revision == NO_REVISION


def test_marks_are_kept_changed_and_forgotten(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "journal.db")) as connection:
        transaction = Transaction(connection)
        one, two = KeptMark("file:a", "v", 1, None), KeptMark("hub:b", "v", 2, "t")
        schedules.save_marks(transaction, [one, two])
        schedules.save_marks(transaction, [one._replace(base=3, task="u")])
        assert schedules.marks(transaction) == {"file:a": one._replace(base=3, task="u"), "hub:b": two}
        schedules.forget_others(transaction, {"hub:b"})
        assert schedules.marks(transaction) == {"hub:b": two}
