"""The file of the hub's key: made once, whole, for its owner alone, and never a second time."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from broker.errors import SettingsError
from hub.accounts import Accounts
from hub.keys import new_token, open_key
from hub.rules.access import Account, Kind
from hub.rules.secrets import Prefix, password_of, read_token
from hub.store.accounts import save_account
from hub.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine

W1 = Account("w1", Kind.WORKER, "site-a", 2, 0, 0)


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "hub.key"
    key = open_key(path, may_make=True)

    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_key(path, may_make=True) == open_key(path, may_make=False) == key
    assert [one.name for one in path.parent.iterdir()] == ["hub.key"]


def test_two_that_make_it_at_one_time_have_the_same(tmp_path: Path) -> None:
    keys: list[bytes] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        keys.append(open_key(tmp_path / "hub.key", may_make=True))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_a_key_that_is_lost_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"HUB_KEY_FILE is .*hub\.key\": .*it is gone: bring back your copy"):
        open_key(tmp_path / "hub.key", may_make=False)
    assert not (tmp_path / "hub.key").exists()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_what_is_no_key_is_told(tmp_path: Path, size: int) -> None:
    (tmp_path / "hub.key").write_bytes(bytes(size))
    with pytest.raises(SettingsError, match=f"a file of 32 bytes, and it has {size}"):
        open_key(tmp_path / "hub.key", may_make=True)


def test_a_place_where_none_can_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="a file that can be read, or made"):
        open_key(tmp_path / "file" / "hub.key", may_make=True)


def test_tokens_are_never_the_same() -> None:
    tokens = {str(new_token(Prefix.API)) for _ in range(100)}

    assert len(tokens) == 100
    assert all(read_token(one, Prefix.API) for one in tokens)


def accounts(engine: Engine, connection: Connection, key_file: Path, *known: Account) -> Accounts:
    for one in known:
        save_account(connection, one)
    found = Accounts(engine, Watch(engine), key_file)
    found.load(connection)
    return found


def test_a_hub_whose_accounts_have_lost_their_key_says_so(
    engine: Engine, connection: Connection, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="bring back your copy"):
        accounts(engine, connection, tmp_path / "hub.key", W1)


def test_an_account_is_known_by_its_name_and_its_own_password(
    engine: Engine, connection: Connection, tmp_path: Path
) -> None:
    key = open_key(tmp_path / "hub.key", may_make=True)
    gone = W1._replace(name="w2", revoked_ms=1)
    known = accounts(engine, connection, tmp_path / "hub.key", W1, gone)

    assert known.verify("w1", password_of(key, "w1", 2)) == W1
    assert known.verify("w1", password_of(key, "w1", 1)) is None
    assert known.verify("w1", password_of(key, "w2", 2)) is None
    assert known.verify("w1", "") is None
    assert known.verify("w1", "ü") is None
    assert known.verify("w2", password_of(key, "w2", 2)) is None
    assert known.verify("w3", password_of(key, "w3", 0)) is None
    assert known.verify("", password_of(key, "", 0)) is None


def test_a_hub_without_accounts_makes_no_key(engine: Engine, connection: Connection, tmp_path: Path) -> None:
    known = accounts(engine, connection, tmp_path / "hub.key")

    assert known.verify("w1", re.escape("anything")) is None
    assert not (tmp_path / "hub.key").exists()
