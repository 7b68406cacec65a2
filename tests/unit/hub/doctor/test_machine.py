"""What the doctor thinks of the database, the certificates, the clock and the tokens."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from broker.doctor import Finding, Level, examine
from hub.certificates import make_authority
from hub.doctor import clock
from hub.doctor.access import check_tokens
from hub.doctor.certificates import check_certificates, judge
from hub.doctor.database import check_database
from hub.doctor.examination import Examination
from hub.rules.roles import Role
from hub.rules.tokens import ApiToken
from hub.settings import HubSettings
from hub.store.engine import open_engine
from hub.store.lock import hold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

NOW = dt.datetime(2027, 1, 15, tzinfo=dt.UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY_MS = 86_400_000


def amiss(findings: Iterable[Finding]) -> list[tuple[Level, str]]:
    listed = list(findings)
    assert all(one.remedy for one in listed if one.level is not Level.OK)
    return [(one.level, one.what) for one in listed if one.level is not Level.OK]


# -- the database ----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hub.db"
    open_engine(f"sqlite:///{path}").dispose()
    return path


def look(file: Path, **more: Any) -> list[tuple[Level, str]]:  # noqa: ANN401
    return amiss(check_database(HubSettings(database_url=f"sqlite:///{file}", **more)))


def test_a_sound_database_that_is_served_is_well(file: Path) -> None:
    with hold(file, "edge-hub serve"):
        assert look(file) == []


def test_that_no_hub_runs_is_told(file: Path) -> None:
    assert look(file) == [(Level.WARN, f"no hub serves {file}")]


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "hub.db"
    assert look(missing) == [
        (Level.WARN, f"{missing.parent} does not exist"),
        (Level.WARN, f"there is no database at {missing} yet"),
    ]


async def test_who_may_not_look_is_told_to_do_it_as_the_hubs_user(file: Path) -> None:
    settings = HubSettings(database_url=f"sqlite:///{file}", broker_url="mqtt://localhost:9", http_port=0)
    await asyncio.to_thread(int)  # what asyncio loads late: the other user may not read it
    with another_user(file.parent):
        found = {one.area: amiss(one.findings) for one in await examine(Examination(settings).areas())}
    (told,) = found["database"]
    assert told == (Level.BAD, f"{file.parent} cannot be written by this user")
    faults = [what for area in found.values() for _, what in area if "could not be looked at" in what]
    assert faults == []


@contextlib.contextmanager
def another_user(folder: Path) -> Iterator[None]:
    """Be somebody for the block who may not look into `folder`."""
    user = os.geteuid()
    folder.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        if user == 0:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_damaged_database_is_bad(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with hold(file, "edge-hub serve"):
        (found,) = look(file)
    assert found[0] is Level.BAD


def test_a_newer_hubs_database_is_bad(file: Path) -> None:
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = '0999'")
    with hold(file, "edge-hub serve"):
        ((level, what),) = look(file)
    assert level is Level.BAD
    assert what.startswith("its schema is 0999, of a newer hub; this one knows up to 0")


def test_a_database_that_others_may_read_is_a_warning(file: Path) -> None:
    with hold(file, "edge-hub serve"):
        file.chmod(0o644)
        assert look(file) == []  # nobody else gets into its directory
        file.parent.chmod(0o755)
        assert look(file) == [(Level.WARN, f"{file} is open to other users of this machine (mode 0644)")]


@pytest.mark.parametrize(("free", "level"), [(10_000_000, Level.BAD), (100_000_000, Level.WARN)])
def test_a_disk_that_gets_full_is_told(file: Path, free: int, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(file.parent)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with hold(file, "edge-hub serve"):
        assert look(file) == [(level, f"{free / 1e9:.1f} GB are free at {file.parent}")]


def test_a_key_that_is_lost_or_no_key_is_bad(file: Path, tmp_path: Path) -> None:
    key = tmp_path / "hub.key"
    with hold(file, "edge-hub serve"):
        assert look(file) == []  # nobody has an account yet
        with closing(sqlite3.connect(file)) as opened, opened:
            opened.execute("INSERT INTO accounts VALUES ('w1', 'worker', 'site-a', 1, 1, 1, NULL)")
        lost = f"there are accounts, and no key at {key}: no password can be told again"
        assert look(file) == [(Level.BAD, lost)]
        key.write_bytes(b"short")
        key.chmod(0o600)
        assert look(file) == [(Level.BAD, f"the hub's key {key} has 5 bytes, not 32")]
        key.write_bytes(bytes(32))
        assert look(file) == []


# -- certificates ----------------------------------------------------------------------------------------------------


def test_each_certificate_is_judged_by_when_it_holds() -> None:
    certificate = x509.load_pem_x509_certificate(make_authority("test", NOW).certificate)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    day = dt.timedelta(days=1)
    levels = [
        judge("it", certificate, when).level for when in (begins - day, begins + day, ends - day, ends, ends + day)
    ]
    assert levels == [Level.BAD, Level.OK, Level.WARN, Level.BAD, Level.BAD]


def test_a_file_that_is_no_certificate_is_bad(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")
    ((level, what),) = amiss(check_certificates(HubSettings(tls_ca=tmp_path / "ca.crt"), NOW))
    assert level is Level.BAD
    assert what.startswith("HUB_TLS_CA: ")


# -- the clock -------------------------------------------------------------------------------------------------------


def test_a_clock_that_has_lost_its_time_or_went_back_is_bad() -> None:
    assert amiss(clock.judge(1_000_000, None))[0][1] == "this machine's clock shows a time before Holdfast was written"
    behind = amiss(clock.judge(NOW_MS, NOW_MS + 600_000))
    assert behind == [(Level.BAD, "this machine's clock is at least 10 min behind what the hub has written already")]
    assert amiss(clock.judge(NOW_MS, NOW_MS + 1000)) == []


async def test_what_cannot_be_seen_of_the_clock_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (found,) = await clock.check_clock(NOW_MS, None)
    assert (found.level, "cannot be seen here" in found.what) == (Level.OK, True)


# -- tokens ----------------------------------------------------------------------------------------------------------


def a_token(name: str, **more: Any) -> ApiToken:  # noqa: ANN401
    return ApiToken(f"id-{name}", name, Role.VIEWER, "hash", 1)._replace(**more)


def tokens(*all_of_them: ApiToken, loopback: bool = False, anonymous: bool = False) -> list[tuple[Level, str]]:
    return amiss(check_tokens(all_of_them, NOW_MS, loopback=loopback, anonymous=anonymous, required=False))


def test_an_api_that_is_open_to_others_is_told_and_one_that_is_not_is_well() -> None:
    assert tokens(loopback=True) == []
    assert [level for level, _ in tokens(anonymous=True)] == [Level.WARN]
    assert [level for level, _ in tokens()] == [Level.BAD]
    assert tokens(a_token("me")) == []


def test_tokens_none_of_which_holds_are_bad_and_one_that_ends_soon_is_a_warning() -> None:
    assert tokens(a_token("old", revoked_ms=1), a_token("older", expires_ms=NOW_MS - 1)) == [
        (Level.BAD, "no token holds: nobody can use the API")
    ]
    assert tokens(a_token("me", expires_ms=NOW_MS + DAY_MS)) == [(Level.WARN, "within two weeks end the tokens me")]
