"""`edge-hub workers` and `edge-hub accounts`, on a database of their own: what they print, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from hub.cli import app
from hub.rules.enrolment import Ask, Grant
from hub.rules.secrets import Prefix, password_of, read_token
from hub.store.engine import open_engine
from hub.store.granting import trade
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Command = Callable[..., Result]

TOKEN = re.compile(r"hfe_[a-z0-9]{8}_[A-Za-z0-9_-]{43}(_[0-9a-f]{32})?\n")


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.db'}"


@pytest.fixture
def edge_hub(database: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `edge-hub`."""
    monkeypatch.setenv("HUB_DATABASE_URL", database)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return run


def items(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)["items"]
    return found


def trade_it(database: str, text: str, worker: str) -> Grant:
    """Trade a token, as a hub does."""
    ask = Ask(read_token(text.strip(), Prefix.ENROLMENT), worker, None, "nonce")
    engine = open_engine(database)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        grant = trade(connection, ask, reserved=(), now=1, address=None)
    engine.dispose()
    assert isinstance(grant, Grant)
    return grant


def test_the_token_is_all_of_the_answer_and_the_rest_is_a_hint(edge_hub: Command) -> None:
    result = edge_hub("workers", "enrol", "--site", "site-a")

    assert result.exit_code == 0
    assert TOKEN.fullmatch(result.stdout)
    assert "for a worker of site-a, once, within 60 min; on its host: edge-agent enrol --hub URL" in result.stderr
    assert "HUB_MANAGE_ACCOUNTS is false" in result.stderr


def test_a_token_names_the_authority_of_the_broker(
    edge_hub: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("HUB_TLS_CA", str(authority.path))
    token = read_token(edge_hub("workers", "enrol", "--site", "site-a").stdout.strip(), Prefix.ENROLMENT)

    assert token is not None
    assert token.ca == hashlib.sha256(ssl.PEM_cert_to_DER_cert(authority.pem)).hexdigest()[:32]


def test_an_authority_that_is_none_is_told(edge_hub: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    monkeypatch.setenv("HUB_PUBLIC_CA", str(tmp_path / "ca.crt"))
    result = edge_hub("workers", "enrol", "--site", "site-a")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "HUB_PUBLIC_CA is" in result.stderr
    assert "one or more certificates in PEM" in result.stderr


def test_a_worker_is_enrolled_listed_renewed_and_revoked(edge_hub: Command, database: str) -> None:
    token = edge_hub("workers", "enrol", "--site", "site-a", "--worker", "w1").stdout
    assert trade_it(database, token, "w1").account.generation == 1
    (listed,) = items(edge_hub("workers", "list", "--json"))
    assert (listed["name"], listed["site"], listed["state"], listed["revoked_at"]) == ("w1", "site-a", None, None)
    assert "never seen" in edge_hub("workers", "list").stdout

    renewal = edge_hub("workers", "rotate", "w1")
    assert "edge-agent enrol --hub URL --token TOKEN --replace" in renewal.stderr
    assert trade_it(database, renewal.stdout, "w1").account.generation == 2
    left = edge_hub("workers", "rotate", "w1").stdout.split("_")[1]
    assert edge_hub("workers", "revoke", "w1").stdout == "w1 is revoked\n"
    assert items(edge_hub("workers", "list", "--json"))[0]["revoked_at"] is not None
    states = {one["id"]: one["state"] for one in items(edge_hub("workers", "list", "--tokens", "--json"))}
    assert states[left] == "revoked"  # with the worker, what it could come back by
    assert sorted(states.values()) == ["revoked", "used", "used"]


def test_a_token_for_a_worker_of_another_site_says_that_it_moves(edge_hub: Command, database: str) -> None:
    trade_it(database, edge_hub("workers", "enrol", "--site", "site-a").stdout, "w1")
    moving = edge_hub("workers", "enrol", "--site", "site-b", "--worker", "w1")

    assert "w1 has an account at site-a: with this token it moves to site-b" in moving.stderr


def test_a_token_that_was_not_used_can_be_taken_back(edge_hub: Command, database: str) -> None:
    unused, used = (edge_hub("workers", "enrol", "--site", "site-a").stdout for _ in range(2))
    trade_it(database, used, "w1")

    for text, hint in ((unused, ""), (used, "was used by w1 already: to throw that out, edge-hub workers revoke w1")):
        token = text.split("_")[1]
        result = edge_hub("workers", "revoke", "--token", token)
        assert result.stdout == f"token {token} is revoked\n"
        assert hint in result.stderr
    assert edge_hub("workers", "revoke", "--token", "nonesuch").exit_code == 2


@pytest.mark.parametrize(
    ("options", "kind", "site"),
    [
        (("--site", "site-a"), "publisher", "site-a"),
        (("--read",), "reader", None),
        (("--read", "--site", "site-a"), "reader", "site-a"),
        (("--bridge", "--site", "site-a"), "bridge", "site-a"),
    ],
)
def test_an_account_is_made_and_its_password_is_all_of_the_answer(
    edge_hub: Command, tmp_path: Path, options: tuple[str, ...], kind: str, site: str | None
) -> None:
    result = edge_hub("accounts", "add", "one", *options)

    key = (tmp_path / "hub.key").read_bytes()
    assert result.stdout == f"{password_of(key, 'one', 1)}\n"
    assert "its user name is one, and so must its client id be" in result.stderr
    (listed,) = items(edge_hub("accounts", "list", "--json"))
    assert (listed["name"], listed["kind"], listed["site"], listed["generation"]) == ("one", kind, site, 1)
    assert kind in edge_hub("accounts", "list").stdout


def test_an_account_is_renewed_revoked_and_made_anew_with_another_password_each_time(edge_hub: Command) -> None:
    commands = [("add", "one", "--read"), ("rotate", "one"), ("revoke", "one"), ("add", "one", "--read")]
    said = [edge_hub("accounts", *command).stdout for command in commands]

    assert said[2] == "one is revoked\n"
    assert len({said[0], said[1], said[3]}) == 3


def test_who_did_it_is_in_the_audit_trail(edge_hub: Command, database: str) -> None:
    edge_hub("accounts", "add", "one", "--read")
    edge_hub("workers", "enrol", "--site", "site-a")
    engine = open_engine(database)
    with engine.connect() as connection:
        lines = connection.exec_driver_sql("SELECT who, action, target, detail FROM audit ORDER BY seq").all()
    engine.dispose()

    assert [line[1] for line in lines] == ["account.added", "enrolment.created"]
    assert all(line[0].startswith("local:") for line in lines)
    assert lines[0][2:] == ("one", "reader, of all sites")
    assert lines[1][3] == "for a worker of site-a, for 60 min"


ADD = ("accounts", "add")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("workers", "enrol", "--site", "Site A"), '--site is "Site A": expected a text that matches'),
        (("workers", "enrol", "--site", "a", "--worker", "W"), '--worker is "W": expected a text that matches'),
        (("workers", "enrol", "--site", "a", "--worker", "x-intake"), "x-intake ends in -intake"),
        (("workers", "enrol", "--site", "a", "--worker", "known"), "another name: this one is a reader's"),
        (("workers", "revoke"), "expected a WORKER, or --token"),
        (("workers", "revoke", "known"), "WORKER is 'known': expected one that has an account"),
        (("workers", "rotate", "w1"), "WORKER is 'w1': expected one that has an account"),
        ((*ADD, "x"), "--site is missing: expected the site that the publisher is for"),
        ((*ADD, "x", "--bridge"), "--site is missing: expected the site that the bridge is for"),
        ((*ADD, "x", "--read", "--bridge"), "--read and --bridge are two kinds of account"),
        ((*ADD, "holdfast-hub", "--read"), "holdfast-hub is how the hub itself is known at the broker"),
        ((*ADD, "known", "--read"), 'NAME is "known": expected a name that no account has'),
        ((*ADD, "X", "--read"), 'NAME is "X": expected a text that matches'),
        (("accounts", "revoke", "nobody"), "name is 'nobody': there is none"),
        (("accounts", "rotate", "nobody"), "name is 'nobody': there is none"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_changes_nothing(
    edge_hub: Command, arguments: tuple[str, ...], said: str
) -> None:
    edge_hub(*ADD, "known", "--read")
    before = items(edge_hub("accounts", "list", "--json"))
    result = edge_hub(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert items(edge_hub("accounts", "list", "--json")) == before


def test_a_worker_is_not_renewed_as_an_integration_is(edge_hub: Command, database: str) -> None:
    trade_it(database, edge_hub("workers", "enrol", "--site", "site-a").stdout, "w1")

    assert "no worker: edge-hub workers rotate w1" in edge_hub("accounts", "rotate", "w1").stderr


@pytest.mark.parametrize("arguments", [("workers", "list"), ("accounts", "list"), ("workers", "revoke", "w1")])
def test_looking_for_something_makes_no_database(edge_hub: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = edge_hub(*arguments)

    assert result.exit_code == 2
    assert "HUB_DATABASE_URL is" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_passwords_are_not_made_from_a_new_key_where_the_old_one_is_gone(edge_hub: Command, tmp_path: Path) -> None:
    edge_hub(*ADD, "one", "--read")
    (tmp_path / "hub.key").unlink()
    result = edge_hub(*ADD, "two", "--read")

    assert result.exit_code == 2
    assert "HUB_KEY_FILE is" in result.stderr
    assert not (tmp_path / "hub.key").exists()
    assert [one["name"] for one in items(edge_hub("accounts", "list", "--json"))] == ["one"]


def test_a_file_that_is_none_of_the_plugins_is_not_touched(edge_hub: Command, tmp_path: Path) -> None:
    edge_hub(*ADD, "one", "--read")
    for content in ("no JSON", "[]", "{}", '{"clients": []}'):
        (tmp_path / "file.json").write_text(content)
        result = edge_hub("accounts", "fill", str(tmp_path / "file.json"))
        assert result.exit_code == 2
        assert "expected the plugin's file, dynamic-security.json" in result.stderr
        assert (tmp_path / "file.json").read_text() == content
    assert edge_hub("accounts", "fill", str(tmp_path / "none.json")).exit_code == 2


def test_the_plugins_file_keeps_what_is_others_and_its_mode(edge_hub: Command, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    theirs = {"username": "theirs", "password": "hash", "roles": []}
    file.write_text(json.dumps({"defaultACLAccess": {}, "clients": [theirs], "groups": [], "roles": []}))
    file.chmod(0o600)
    edge_hub(*ADD, "one", "--read")

    assert edge_hub("accounts", "fill", str(file)).stdout == f"{file}: 2 changes\n"
    written = json.loads(file.read_text())
    assert written["clients"][0] == theirs
    assert [one["username"] for one in written["clients"]] == ["theirs", "one"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert edge_hub("accounts", "fill", str(file)).stdout == f"{file}: nothing is missing\n"
    edge_hub("accounts", "revoke", "one")
    edge_hub("accounts", "fill", str(file))
    assert json.loads(file.read_text())["clients"] == [theirs]
