"""A backup is one sound file or none; a restore changes all or nothing, and deletes nothing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from broker.clock import wall_ms
from broker.errors import SettingsError
from broker.messages import TaskSpec
from hub.errors import BackupFailed, DatabaseInUse, RestoreRefused
from hub.rules.access import Account, Kind
from hub.rules.callers import Caller
from hub.rules.task import Task, TaskState, new_task
from hub.store import cases, lock
from hub.store.backup import back_up, drop_old, name_in
from hub.store.engine import open_engine
from hub.store.granting import add_account, rotate_account
from hub.store.restore import Restored, restore
from hub.store.schema import audit
from hub.store.tasks import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

KEY = bytes(range(32))


class Place:
    """A directory with a hub's database and key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.database, self.key = folder / "hub.db", folder / "hub.key"

    def put(self, *tasks: Task) -> None:
        engine = open_engine(f"sqlite:///{self.database}")
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            submit(connection, tasks)
        engine.dispose()

    def states(self, *names: str) -> Sequence[TaskState]:
        engine = open_engine(f"sqlite:///{self.database}")
        with engine.connect() as connection:
            found = cases.load(connection, names)
        engine.dispose()
        return [found[name].task.state for name in names]

    def back_up(self, to: Path) -> Path:
        back_up(self.database, self.key, to)
        return to

    def restore(self, file: Path, *, replace: bool = False, complete: bool = False) -> Restored:
        return restore(file, self.database, self.key, replace=replace, complete=complete, who="local:me")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "hub")
    place.put(a_task("once", idempotent=False), a_task("again"))
    place.key.write_bytes(KEY)
    return place


@pytest.fixture
def file(place: Place, tmp_path: Path) -> Path:
    return place.back_up(tmp_path / "backup.db")


def a_task(name: str, *, idempotent: bool = True) -> Task:
    return new_task(TaskSpec(kind="noop", idempotent=idempotent), name, via="http", site=None, pinned=None, now=1)


# -- backup ----------------------------------------------------------------------------------------------------------


def test_a_backup_is_one_file_for_its_owner_alone_and_nothing_is_left_beside_it(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in file.parent.iterdir()) == ["backup.db", "hub"]


def test_what_was_committed_when_it_began_is_in_it_also_from_the_log_of_a_hub_at_work(tmp_path: Path) -> None:
    place = Place(tmp_path / "hub")
    engine = open_engine(f"sqlite:///{place.database}")
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        submit(connection, [a_task("committed")])
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        submit(connection, [a_task("under-way")])
        file = place.back_up(tmp_path / "backup.db")
    engine.dispose()
    with closing(sqlite3.connect(file)) as copy:
        assert copy.execute("SELECT id FROM tasks").fetchall() == [("committed",)]


def test_a_file_that_is_there_is_not_overwritten(place: Place, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(BackupFailed, match=r"backup\.db is there already"):
        place.back_up(file)
    assert file.read_bytes() == before


def test_a_damaged_database_is_not_passed_off_as_a_backup(place: Place, tmp_path: Path) -> None:
    damage(place.database)
    with pytest.raises(BackupFailed):
        place.back_up(tmp_path / "backup.db")
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_what_is_no_hubs_database_is_not_backed_up(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (a)")
    for name, said in (("other.db", "no schema of ours"), ("missing.db", "missing.db is not there")):
        with pytest.raises(BackupFailed, match=said):
            back_up(tmp_path / name, tmp_path / "hub.key", tmp_path / "backup.db")


def test_a_place_that_does_not_exist_is_told(place: Place, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="No such file or directory"):
        place.back_up(tmp_path / "nowhere" / "backup.db")


def test_the_oldest_backups_go_and_no_other_file(tmp_path: Path) -> None:
    names = [f"hub-2026112{day}T031500.123Z.db" for day in range(4)]
    for name in (*names, "hub-notes.db", "mine.db"):
        (tmp_path / name).touch()
    assert [path.name for path in drop_old(tmp_path, 3)] == names[:1]
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], "hub-notes.db", "mine.db"}
    (tmp_path / name_in(tmp_path).name).touch()
    assert [path.name for path in drop_old(tmp_path, 3)] == names[1:2]


# -- restore ---------------------------------------------------------------------------------------------------------


def test_a_restore_brings_database_and_key_to_a_new_place(file: Path, tmp_path: Path) -> None:
    new = Place(tmp_path / "new")
    done = new.restore(file)
    assert (new.key.read_bytes(), new.key.stat().st_mode & 0o777) == (KEY, 0o600)
    assert new.database.stat().st_mode & 0o777 == 0o600
    assert new.states("once", "again") == [TaskState.UNKNOWN, TaskState.PENDING]
    assert (done.unknown, done.cancelled, done.set_aside) == (1, 0, ())
    assert KEY not in new.database.read_bytes()
    assert rows(new.database, "SELECT name FROM sqlite_master WHERE name = 'backup'") == []
    assert sorted(path.name for path in new.folder.iterdir()) == ["hub.db", "hub.db.lock", "hub.key"]


def test_a_backup_that_lacks_nothing_is_taken_as_it_is(file: Path, tmp_path: Path) -> None:
    new = Place(tmp_path / "new")
    new.restore(file, complete=True)
    assert new.states("once", "again") == [TaskState.PENDING, TaskState.PENDING]


@pytest.mark.parametrize("complete", [False, True])
def test_an_enrolment_token_that_may_have_been_used_since_is_good_no_more(
    place: Place, tmp_path: Path, *, complete: bool
) -> None:
    with closing(sqlite3.connect(place.database)) as opened, opened:
        opened.execute(
            "INSERT INTO enrolments (id, hash, site, created_ms, expires_ms) VALUES ('e1', 'h', 'site-a', 1, 9e15)"
        )
    place.restore(place.back_up(tmp_path / "with-token.db"), replace=True, complete=complete)
    ((revoked,),) = rows(place.database, "SELECT revoked_ms IS NOT NULL FROM enrolments")
    assert revoked == (not complete)


@pytest.mark.parametrize("name", ["known", "forgotten"])
def test_no_account_gets_a_password_that_the_restored_hub_has_forgotten(
    place: Place, tmp_path: Path, name: str
) -> None:
    first = "known" if name == "known" else "another"
    add(place, first)
    file = place.back_up(tmp_path / "before.db")
    if name == "forgotten":
        add(place, name)
    gone = anew(place, name)

    place.restore(file, replace=True)

    given = anew(place, name) if name == "known" else add(place, name)
    assert given.generation > gone.generation
    assert anew(place, name).generation == given.generation + 1


def add(place: Place, name: str) -> Account:
    return changed(place, partial(add_account, name=name, kind=Kind.READER, site=None, reserved=()))


def anew(place: Place, name: str) -> Account:
    return changed(place, partial(rotate_account, name=name))


def changed(place: Place, change: Callable[..., Account]) -> Account:
    engine = open_engine(f"sqlite:///{place.database}")
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        account = change(connection, by=Caller(who="local:me"), now=wall_ms())
    engine.dispose()
    return account


def test_a_restore_is_in_the_audit_trail(file: Path, place: Place) -> None:
    place.restore(file, replace=True)
    engine = open_engine(f"sqlite:///{place.database}")
    with engine.connect() as connection:
        (line,) = connection.execute(select(audit).order_by(audit.c.seq)).all()
    engine.dispose()
    assert (line.who, line.action, line.outcome) == ("local:me", "hub.restored", "done")
    assert "from the backup of 20" in line.detail


def test_what_is_there_stays_unless_it_is_to_be_replaced(file: Path, place: Place) -> None:
    place.put(a_task("since"))
    with pytest.raises(RestoreRefused, match=r"hub\.db is there already: with --replace"):
        place.restore(file)
    assert place.states("since") == [TaskState.PENDING]


def test_what_is_replaced_is_kept_whole(file: Path, place: Place) -> None:
    place.put(a_task("since"))
    other_key = bytes(32)
    place.key.write_bytes(other_key)
    done = place.restore(file, replace=True)
    key, database, *_ = done.set_aside
    assert key.read_bytes() == other_key
    assert rows(database, "SELECT id FROM tasks ORDER BY seq") == [("once",), ("again",), ("since",)]
    assert rows(place.database, "SELECT id FROM tasks ORDER BY seq") == [("once",), ("again",)]


def test_a_damaged_database_can_be_replaced_and_is_kept_with_its_log(file: Path, place: Place) -> None:
    damage(place.database)
    log = place.database.with_name("hub.db-wal")
    log.write_bytes(b"what was written last")
    place.restore(file, replace=True)
    assert place.states("again") == [TaskState.PENDING]
    assert not log.exists() or b"what was written last" not in log.read_bytes()
    (kept,) = place.folder.glob("hub.db.before-*-wal")
    assert kept.read_bytes() == b"what was written last"


def test_another_key_is_not_overwritten_by_the_way(file: Path, tmp_path: Path) -> None:
    new = Place(tmp_path / "new")
    new.key.write_bytes(bytes(32))
    with pytest.raises(RestoreRefused, match=r"hub\.key is there already, and is another"):
        new.restore(file)
    assert not new.database.exists()


def test_nothing_is_restored_under_a_hub_that_runs(file: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.0)
    with lock.hold(place.database, "edge-hub serve"), pytest.raises(DatabaseInUse, match="edge-hub serve"):
        place.restore(file, replace=True)


def test_a_newer_hubs_backup_is_refused_with_its_version(file: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(file)) as copy, copy:
        copy.execute("UPDATE backup SET value = '0999' WHERE name = 'schema'")
        copy.execute("UPDATE backup SET value = '9.1.0' WHERE name = 'version'")
    with pytest.raises(RestoreRefused, match=r"edge-hub 9\.1\.0, with schema 0999; .* install 9\.1\.0 or newer"):
        Place(tmp_path / "new").restore(file)


@pytest.mark.parametrize("content", [b"", b"nonsense " * 1000])
def test_what_is_no_backup_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "backup.db").write_bytes(content)
    new = Place(tmp_path / "new")
    with pytest.raises(RestoreRefused, match="cannot be read as what `edge-hub backup` makes"):
        new.restore(tmp_path / "backup.db")
    assert list(new.folder.iterdir()) == []


def test_a_damaged_backup_is_refused_and_changes_nothing(place: Place, file: Path) -> None:
    damage(file)
    before = place.database.read_bytes()
    with pytest.raises(RestoreRefused):
        place.restore(file, replace=True)
    assert place.database.read_bytes() == before
    assert list(place.folder.glob("*before*")) == []


def test_an_older_hubs_backup_is_brought_up_to_date(place: Place, tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{place.database}")
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        for table in ("audit", "accounts", "enrolments", "tokens"):  # what revision 0005 added
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0004'"))
    engine.dispose()
    file = place.back_up(tmp_path / "old.db")
    new = Place(tmp_path / "new")
    assert new.restore(file).about.schema == "0004"
    assert new.states("again") == [TaskState.PENDING]


def test_a_hub_says_which_schema_of_a_newer_one_it_does_not_know(place: Place) -> None:
    with closing(sqlite3.connect(place.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(SettingsError, match="this one has schema 0999, of a newer hub; install that"):
        open_engine(f"sqlite:///{place.database}")


def damage(path: Path) -> None:
    """Overwrite a page that holds rows."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tasks'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/hub.db")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    engine.dispose()


def test_what_root_makes_in_a_folder_belongs_to_whom_the_folder_belongs_to(tmp_path: Path) -> None:
    user = os.geteuid() or 65534  # as root: of the hub's user
    os.chown(tmp_path, user, -1)
    open_engine(f"sqlite:///{tmp_path}/hub.db").dispose()
    with lock.hold(tmp_path / "hub.db", "edge-hub serve"):
        back_up(tmp_path / "hub.db", tmp_path / "hub.key", tmp_path / "backup.db")
    restore(tmp_path / "backup.db", tmp_path / "hub.db", tmp_path / "hub.key", replace=True, complete=True, who="me")
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {user}
