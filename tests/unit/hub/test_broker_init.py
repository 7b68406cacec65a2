"""What `edge-hub broker init` makes, leaves alone, and renews."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker.errors import InvalidInput
from hub.broker_init import Plan, initialise
from hub.certificate_files import is_key_of, read_certificates
from hub.certificates import hosts_of, is_issued_by
from hub.rules.first_access import hash_of
from tests.support.needs import missing as missing_here

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=701)
PRIVATE, PUBLIC = 0o600, 0o644
FILES = {
    "hub-password": PRIVATE,
    "ca.crt": PUBLIC,
    "ca.key": PRIVATE,
    "mosquitto/dynamic-security.json": PRIVATE,
    "mosquitto/server.crt": PUBLIC,
    "mosquitto/server.key": PRIVATE,
    "mosquitto/ca.crt": PUBLIC,
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(directory=tmp_path / "etc" / "broker", hosts=("broker.example",), owner=str(os.geteuid()))


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        missing_here("root, who alone gives files away")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def server(plan: Plan) -> Path:
    return plan.broker / "server.crt"


def test_everything_is_made_and_secrets_are_their_owners_alone(plan: Plan) -> None:
    initialise(plan, NOW)
    modes = {name: stat.S_IMODE((plan.directory / name).stat().st_mode) for name in contents(plan.directory)}
    assert modes == FILES
    assert stat.S_IMODE(plan.broker.stat().st_mode) == 0o700


def test_the_hubs_account_has_the_password_of_the_file(plan: Plan) -> None:
    initialise(plan, NOW)
    (client,) = json.loads((plan.broker / "dynamic-security.json").read_text())["clients"]
    password = (plan.directory / "hub-password").read_text().strip()
    assert client["password"] == hash_of(password, base64.b64decode(client["salt"]))


def test_again_it_changes_nothing(plan: Plan) -> None:
    initialise(plan, NOW)
    before = contents(plan.directory)
    assert initialise(plan, NOW) == []
    assert contents(plan.directory) == before


@pytest.mark.parametrize("missing", sorted(FILES.keys() - {"hub-password", "ca.crt", "ca.key"}))
def test_what_is_missing_is_made_and_all_else_stays(plan: Plan, missing: str) -> None:
    initialise(plan, NOW)
    before = contents(plan.directory)
    (plan.directory / missing).unlink()
    initialise(plan, NOW)
    after = contents(plan.directory)
    assert after.keys() == before.keys()
    pair = {"mosquitto/server.crt", "mosquitto/server.key"}
    assert {name for name in before if before[name] != after[name]} <= (pair if missing in pair else {missing})
    assert is_issued_by(read_certificates(server(plan))[0], read_certificates(plan.directory / "ca.crt")[0])


def test_a_certificate_that_ends_soon_is_renewed_by_the_same_authority_for_the_same_hosts(plan: Plan) -> None:
    initialise(plan, NOW)
    old = read_certificates(server(plan))[0]
    ca = (plan.directory / "ca.crt").read_bytes()
    again = replace(plan, hosts=())
    assert initialise(again, LATER - dt.timedelta(days=2)) == []
    (said,) = initialise(again, LATER)
    new = read_certificates(server(plan))[0]
    assert "renewed" in said
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert hosts_of(new) == hosts_of(old)
    assert (plan.directory / "ca.crt").read_bytes() == ca
    assert is_issued_by(new, read_certificates(plan.directory / "ca.crt")[0])


def test_a_host_that_is_new_is_added(plan: Plan) -> None:
    initialise(plan, NOW)
    initialise(replace(plan, hosts=("10.0.0.7",)), NOW)
    assert {"broker.example", "10.0.0.7", "localhost", "127.0.0.1", "::1"} == set(
        hosts_of(read_certificates(server(plan))[0])
    )


def test_a_certificate_whose_key_is_another_is_made_anew(plan: Plan) -> None:
    """So a power cut between the two files is mended: mosquitto does not start with them."""
    initialise(plan, NOW)
    (plan.broker / "server.key").write_bytes((plan.directory / "ca.key").read_bytes())
    (said,) = initialise(plan, NOW)
    assert "its key was not there" in said
    assert is_key_of(plan.broker / "server.key", read_certificates(server(plan))[0])


def test_a_certificate_of_somebody_else_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    other = replace(plan, directory=tmp_path / "other")
    for one in (plan, other):
        initialise(one, NOW)
    server(plan).write_bytes(server(other).read_bytes())
    assert initialise(replace(plan, hosts=("new.example",)), LATER) == []
    assert server(plan).read_bytes() == server(other).read_bytes()


def test_the_key_of_the_authority_is_needed_only_to_sign(plan: Plan) -> None:
    initialise(plan, NOW)
    (plan.directory / "ca.key").unlink()
    assert initialise(plan, NOW) == []
    with pytest.raises(InvalidInput, match=r"ca\.key"):
        initialise(plan, LATER)


def test_a_given_authority_signs_and_its_key_stays_where_it_is(plan: Plan, tmp_path: Path) -> None:
    company = replace(plan, directory=tmp_path / "company")
    initialise(company, NOW)
    given = replace(plan, authority=(company.directory / "ca.crt", company.directory / "ca.key"))
    initialise(given, NOW)
    assert not (plan.directory / "ca.key").exists()
    assert (plan.directory / "ca.crt").read_bytes() == (company.directory / "ca.crt").read_bytes()
    assert is_issued_by(read_certificates(server(plan))[0], read_certificates(company.directory / "ca.crt")[0])
    assert initialise(given, NOW) == []


def test_another_authority_than_workers_were_told_of_is_refused(plan: Plan, tmp_path: Path) -> None:
    company = replace(plan, directory=tmp_path / "company")
    for one in (plan, company):
        initialise(one, NOW)
    given = replace(plan, authority=(company.directory / "ca.crt", company.directory / "ca.key"))
    with pytest.raises(InvalidInput, match=r"--ca is .*company"):
        initialise(given, NOW)


def test_without_certificates_there_is_the_account_alone(plan: Plan) -> None:
    initialise(replace(plan, certificates=False), NOW)
    assert contents(plan.directory).keys() == {"hub-password", "mosquitto/dynamic-security.json"}


def test_a_lost_password_is_told_with_the_way_out(plan: Plan) -> None:
    initialise(plan, NOW)
    (plan.directory / "hub-password").unlink()
    with pytest.raises(InvalidInput, match="stop the broker and delete"):
        initialise(plan, NOW)


def test_a_place_that_cannot_be_written_is_named(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(InvalidInput, match=r"DIRECTORY is .*a place that can be written"):
        initialise(plan, NOW)


@pytest.mark.usefixtures("root")
def test_an_owner_who_is_none_is_refused(plan: Plan) -> None:
    with pytest.raises(InvalidInput, match="--owner is"):
        initialise(replace(plan, owner="nobody-at-all"), NOW)


@pytest.mark.usefixtures("root")
def test_what_is_in_a_folder_belongs_to_whom_the_folder_belongs_to(plan: Plan) -> None:
    plan.broker.mkdir(parents=True)
    os.chown(plan.broker, 10001, 10002)
    initialise(replace(plan, owner=None), NOW)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in plan.broker.iterdir()}
    assert owners == {(10001, 10002)}
    assert (plan.directory / "hub-password").stat().st_uid == os.geteuid()
