"""The database is opened with the newest schema, and with what makes a commit durable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event, insert, inspect, select, text

import hub.store
from broker.errors import SettingsError
from hub.store.engine import open_engine, revisions, schema_of
from hub.store.schema import metadata, streams
from hub.store.tasks import unended

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


def test_the_migrations_make_exactly_the_schema(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    assert compare_metadata(context, metadata) == []


def test_the_primary_keys_are_those_of_the_schema(connection: Connection) -> None:
    found = inspect(connection)
    for table in metadata.sorted_tables:
        columns = found.get_pk_constraint(table.name)["constrained_columns"]
        assert columns == [column.name for column in table.primary_key.columns]


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 10000)]
)
def test_a_commit_is_durable_and_readers_do_not_wait(connection: Connection, pragma: str, value: object) -> None:
    assert connection.execute(text(f"PRAGMA {pragma}")).scalar_one() == value


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deep/down/hub.db"
    first = open_engine(url)
    with first.begin() as writing:
        writing.execute(insert(streams).values(worker="w1", stream="st", committed_through=7))
    first.dispose()
    second = open_engine(url)
    with second.connect() as reading:
        assert reading.execute(select(streams.c.committed_through)).scalar_one() == 7
    second.dispose()


def test_tasks_of_an_earlier_release_are_for_one_worker_and_nobodys_child(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    earlier = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(hub.store.__file__).parent / "migrations"))
    with earlier.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        values = "'t1', 'noop', '{}', 'd', 'http', 0, 1, 1, 1.0, 'pending', 0, 1"
        columns = "id, kind, spec, digest, via, priority, idempotent, max_attempts, backoff_seconds, state, attempt"
        connection.execute(text(f"INSERT INTO tasks ({columns}, created_ms) VALUES ({values})"))  # noqa: S608
        connection.commit()
    earlier.dispose()
    engine = open_engine(url)
    with engine.connect() as reading:
        (task,) = unended(reading)
    engine.dispose()
    assert (task.id, task.target, task.parent) == ("t1", "one", None)


@pytest.mark.parametrize("schema", revisions())
def test_a_database_of_each_earlier_schema_is_brought_up_to_date(schema: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    earlier = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(hub.store.__file__).parent / "migrations"))
    with earlier.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, schema)
        connection.commit()
    earlier.dispose()
    engine = open_engine(url)
    with engine.connect() as reading:
        assert schema_of(reading) == revisions()[-1]
        assert sorted(inspect(reading).get_table_names()) == sorted([*metadata.tables, "alembic_version"])
    engine.dispose()


def test_a_reader_sees_the_last_commit_while_a_writer_writes(engine: Engine) -> None:
    with engine.connect().execution_options(writes=True) as writing, engine.connect() as reading:
        writing.execute(insert(streams).values(worker="w1", stream="st", committed_through=7))
        assert reading.execute(select(streams)).all() == []
        reading.rollback()
        writing.commit()
        assert len(reading.execute(select(streams)).all()) == 1


def test_a_writer_takes_the_lock_at_once(engine: Engine) -> None:
    begun: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: begun.append(statement))
    with engine.connect().execution_options(writes=True) as writing:
        writing.execute(text("SELECT 1"))
    with engine.connect() as reading:
        reading.execute(text("SELECT 1"))
    assert [statement for statement in begun if statement.startswith("BEGIN")] == ["BEGIN IMMEDIATE", "BEGIN"]


@pytest.mark.parametrize(
    "url",
    ["", "hub.db", "sqlite://", "sqlite:///:memory:", "postgresql://localhost/hub", "mysql://x", "sqlite+x:///hub.db"],
)
def test_a_url_that_is_no_database_of_ours_is_named(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_engine(url)
    (problem,) = caught.value.problems
    assert problem.field == "HUB_DATABASE_URL"
    assert url in problem.value
    assert "sqlite:///" in problem.expected


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"this is no database, and never was one" * 99)
    with pytest.raises(SettingsError) as caught:
        open_engine(f"sqlite:///{tmp_path}/hub.db")
    assert "a database that can be opened" in str(caught.value)


def test_a_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError) as caught:
        open_engine(f"sqlite:///{tmp_path}/file/hub.db")
    assert "HUB_DATABASE_URL" in str(caught.value)


def test_a_link_that_leads_nowhere_is_not_followed_to_make_a_database_there(tmp_path: Path) -> None:
    (tmp_path / "hub.db").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SettingsError, match="HUB_DATABASE_URL"):
        open_engine(f"sqlite:///{tmp_path}/hub.db")
    assert not (tmp_path / "elsewhere").exists()
