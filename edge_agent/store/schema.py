"""The tables of `journal.db`, and how an older file becomes a newer one.

A step that was released is never changed: the next change of the schema is a new step below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils import Migrations

from broker.clock import new_id

if TYPE_CHECKING:
    from sqlite_utils import Database

migrations = Migrations("edge_agent")

_JOURNAL = """
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT: a number is never used again
    at INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""

_INBOX = """
CREATE TABLE inbox (
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    digest TEXT NOT NULL,
    spec TEXT NOT NULL,
    via TEXT,
    reply TEXT,
    accepted_at INTEGER NOT NULL,
    running INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (task, attempt)
) WITHOUT ROWID
"""

_ENDED = """
CREATE TABLE ended (
    task TEXT PRIMARY KEY,
    attempt INTEGER NOT NULL,
    digest TEXT NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID
"""

_REPLIES = """
CREATE TABLE replies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    correlation TEXT,
    body BLOB NOT NULL
)
"""

_MARKS = """
CREATE TABLE schedule_marks (
    job TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    base INTEGER NOT NULL,
    task TEXT
) WITHOUT ROWID
"""

_PUSHED = """
CREATE TABLE pushed_schedules (
    revision TEXT NOT NULL,
    jobs TEXT NOT NULL
)
"""

_COUNT = """
CREATE TRIGGER journal_on_{name} AFTER {event} ON journal BEGIN
    UPDATE sqlite_sequence SET seq = seq {rows} WHERE name = 'journal.rows';
    UPDATE sqlite_sequence SET seq = seq {size} WHERE name = 'journal.bytes';
END
"""


@migrations()
def journal_and_inbox(database: Database) -> None:
    """Make the first tables, and the stream that the journal's numbers belong to."""
    for statement in (_JOURNAL, _INBOX, _ENDED, _REPLIES, "CREATE INDEX ended_at ON ended (at)"):
        database.execute(statement)
    database.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    database.execute("INSERT INTO about VALUES (?, ?)", ("stream", new_id()))


@migrations()
def classes_and_handles(database: Database) -> None:
    """Tell apart what may be dropped first, and keep what an executor needs to find its work again.

    `class` is a value of `edge_agent.rules.eviction.Class`. Only what goes first is indexed: results, which are most of
    what is written, pay nothing.
    """
    database.execute("ALTER TABLE journal ADD COLUMN class INTEGER NOT NULL DEFAULT 3")
    database.execute("CREATE INDEX journal_by_class ON journal (class, seq) WHERE class < 3")
    database.execute("ALTER TABLE inbox ADD COLUMN handle TEXT")
    database.execute("INSERT INTO about VALUES (?, ?)", ("settled", "0"))


@migrations()
def totals(database: Database) -> None:
    """Let the journal know its rows and bytes without counting them.

    The two sums stand in `sqlite_sequence`, whose page each append writes anyway: a page of their own would be a third
    more to write for a lonely event. A start reads them, however many rows wait, and a rollback takes them back.
    """
    database.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'journal.rows', count(*) FROM journal"
        " UNION ALL SELECT 'journal.bytes', coalesce(sum(length(body)), 0) FROM journal"
    )
    for event, rows, size in (
        ("INSERT", "+ 1", "+ length(new.body)"),
        ("DELETE", "- 1", "- length(old.body)"),
        ("UPDATE OF body", "", "+ length(new.body) - length(old.body)"),
    ):
        database.execute(_COUNT.format(event=event, name=event.split()[0].lower(), rows=rows, size=size))


@migrations()
def schedules(database: Database) -> None:
    """Keep what the hub has pushed to be fired here, and how far each job has come."""
    for statement in (_MARKS, _PUSHED):
        database.execute(statement)
