"""Who has the database."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hub.errors import DatabaseInUse, NoLock
from hub.store import lock
from tests.support.programs import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = "import pathlib, sys; from hub.store.lock import hold; h = hold(pathlib.Path(sys.argv[1]), 'edge-hub serve')"


def test_only_one_has_a_database_and_the_other_is_told_who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.0)
    database = tmp_path / "hub.db"
    with lock.hold(database, "edge-hub serve"):
        holder = lock.holder_of(database)
        assert holder is not None
        assert (holder.pid, holder.what) == (os.getpid(), "edge-hub serve")
        said = f"in use by edge-hub serve, process {os.getpid()} on "
        with pytest.raises(DatabaseInUse, match=said), lock.hold(database, "edge-hub restore"):
            pass
    assert lock.holder_of(database) is None
    with lock.hold(database, "edge-hub restore"):
        assert "edge-hub restore" in str(lock.holder_of(database))


def test_the_lock_of_who_was_killed_is_free(tmp_path: Path) -> None:
    database = tmp_path / "hub.db"
    holding = subprocess.Popen(
        [sys.executable, "-c", f"{HOLDER}; h.__enter__(); print('held', flush=True); sys.stdin.read()", str(database)],
        env=clean_environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holding:
        assert holding.stdout
        assert holding.stdout.readline() == "held\n"
        found = lock.holder_of(database)
        assert found is not None
        assert found.pid == holding.pid
        holding.kill()
        holding.wait()
        assert lock.holder_of(database) is None
        with lock.hold(database, "edge-hub serve"):
            pass


def test_nobody_has_a_database_that_was_never_served(tmp_path: Path) -> None:
    assert lock.holder_of(tmp_path / "hub.db") is None


def test_where_there_can_be_no_lock_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoLock, match=r"hub\.db\.lock: "), lock.hold(tmp_path / "file" / "hub.db", "edge-hub serve"):
        pass


def test_where_a_file_system_has_no_locks_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_descriptor: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    said = r"hub\.db\.lock cannot be locked: No locks available"
    with pytest.raises(NoLock, match=said), lock.hold(tmp_path / "hub.db", "edge-hub serve"):
        pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("whole")
    (tmp_path / "hub.db.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NoLock, match=r"hub\.db\.lock: "), lock.hold(tmp_path / "hub.db", "edge-hub restore"):
        pass
    assert (tmp_path / "elsewhere").read_text() == "whole"
