"""The credentials' file, and how it fits with the settings."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from broker.errors import SettingsError
from edge_agent import credentials
from edge_agent.credentials import Credentials
from edge_agent.identity import Identity, settled
from edge_agent.settings import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "a-password-of-an-example"  # noqa: S105  an example

NEXT = "that-which-comes-after-it"


def given(**changed: Any) -> Credentials:  # noqa: ANN401  any field
    fields = {
        "worker": "w1",
        "site": "site-a",
        "username": "w1",
        "password": PASSWORD,
        "broker_url": "mqtts://broker.example",
        "root": "edge",
        "ca": "-----BEGIN CERTIFICATE-----",
        "hub": "https://hub.example",
    }
    return Credentials(**{**fields, **changed})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


def settings(file: Path, **more: Any) -> WorkerSettings:  # noqa: ANN401  any setting
    return WorkerSettings(credentials=file, **more)


def test_what_is_written_is_read_and_only_its_owner_can(file: Path) -> None:
    before = os.umask(0)
    try:
        credentials.write(file, given())
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert credentials.read(file) == given()
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_file_that_root_writes_belongs_to_whom_the_directory_does(file: Path) -> None:
    if os.geteuid() == 0:  # nobody else may give a directory away
        os.chown(file.parent, 4711, 4712)
    credentials.write(file, given())
    about, above = file.stat(), file.parent.stat()
    assert (about.st_uid, about.st_gid) == (above.st_uid, above.st_gid)


@pytest.mark.parametrize("text", ["", "{", '{"worker": "w1"}', f'{{"password": "{PASSWORD}", "more": 1}}', "[]"])
def test_a_file_that_holds_something_else_is_named_and_its_content_is_not(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match="WORKER_CREDENTIALS") as raised:
        credentials.read(file)
    assert "edge-agent enrol writes" in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_no_password_is_in_what_is_shown_of_them() -> None:
    assert PASSWORD not in repr(given())
    assert PASSWORD not in repr(given().account())


def test_what_is_not_set_comes_from_the_credentials(file: Path) -> None:
    found = settled(settings(file), given(), file)
    assert (found.id, found.site, found.root) == ("w1", "site-a", "edge")
    assert found.control_plane_url == "https://hub.example"
    assert found.broker_url is None, "the hub is asked: the broker may move"


def test_what_is_set_and_agrees_stays(file: Path) -> None:
    mine = settings(file, id="w1", site="site-a", control_plane_url="https://other.example")
    assert settled(mine, given(), file).control_plane_url == "https://other.example"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("site", "site-b", "WORKER_SITE is 'site-b': expected 'site-a', of which "),
        ("site", "default", "WORKER_SITE is 'default': expected 'site-a', of which "),
        ("id", "w2", "WORKER_ID is 'w2': expected 'w1', of which "),
        ("root", "plant", "WORKER_ROOT is 'plant': expected 'edge', of which "),
    ],
)
def test_a_setting_that_says_something_else_is_one_clear_line(file: Path, name: str, value: str, said: str) -> None:
    credentials.write(file, given())
    with pytest.raises(SettingsError) as raised:
        Identity(settings(file, **{name: value}))
    assert str(raised.value).startswith(said)
    assert str(file) in str(raised.value)


def test_both_connections_have_accounts_of_their_own(file: Path) -> None:
    credentials.write(file, given())
    account = Identity(settings(file)).account()
    assert (account.username, account.intake_username) == ("w1", "w1/intake")
    assert account.tls_ca_text == given().ca


def test_an_account_that_was_set_goes_before_and_serves_both(file: Path) -> None:
    credentials.write(file, given())
    account = Identity(settings(file, username="other", password=PASSWORD)).account()
    assert (account.username, account.password, account.intake_username) == ("other", PASSWORD, None)


def test_an_authority_that_was_set_goes_before(file: Path) -> None:
    credentials.write(file, given())
    ca = file.with_name("ca.crt")
    ca.touch()
    account = Identity(settings(file, tls_ca=ca)).account()
    assert (account.tls_ca, account.tls_ca_text, account.username) == (str(ca), None, "w1")


def test_a_new_password_is_taken_while_the_agent_runs(file: Path) -> None:
    credentials.write(file, given())
    identity = Identity(settings(file))
    assert identity.account().password == PASSWORD
    credentials.write(file, given(password=NEXT, ca=None))
    assert (identity.account().password, identity.account().tls_ca_text) == (NEXT, None)


@pytest.mark.parametrize("text", [None, "half a fi"])
def test_a_file_that_goes_or_is_damaged_changes_nothing_for_who_runs(file: Path, text: str | None) -> None:
    credentials.write(file, given())
    identity = Identity(settings(file))
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert identity.account().password == PASSWORD


def test_credentials_of_another_worker_are_not_taken_by_one_that_runs(file: Path) -> None:
    credentials.write(file, given())
    identity = Identity(settings(file))
    credentials.write(file, given(site="site-b", password=NEXT))
    assert identity.account().password == PASSWORD
    assert identity.settings.site == "site-a"


@pytest.mark.parametrize(
    ("more", "may"),
    [({}, False), ({"enrol_token": "hfe_x"}, True), ({"enrol_token": "hfe_x", "username": "u"}, False)],
)
def test_who_has_a_token_and_no_account_may_be_enrolled(file: Path, more: dict[str, Any], may: object) -> None:
    assert Identity(settings(file, **more)).may_be_enrolled is may
