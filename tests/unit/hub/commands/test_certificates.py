"""`edge-hub broker init` and `edge-hub certificates`, as they are typed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from hub.cli import app

if TYPE_CHECKING:
    from pathlib import Path

EXIT_SETTINGS = 2


def edge_hub(*arguments: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, [str(one) for one in arguments])
    return answer.exit_code, answer.output


@pytest.fixture
def place(tmp_path: Path) -> Path:
    code, _ = edge_hub("broker", "init", tmp_path / "broker", "--host", "broker.example", "--owner", os.geteuid())
    assert code == 0
    return tmp_path / "broker"


def test_it_says_what_it_has_made_and_then_that_nothing_is_missing(tmp_path: Path) -> None:
    command = ("broker", "init", tmp_path / "b", "--host", "broker.example", "--owner", os.geteuid())
    code, said = edge_hub(*command)
    assert code == 0
    assert {"hub-password", "dynamic-security.json", "ca.crt", "server.crt"} <= set(
        re.findall(r"[a-z-]+\.?[a-z]*", said)
    )
    assert edge_hub(*command) == (0, f"{tmp_path / 'b'}: nothing is missing\n")


def test_no_secret_is_said(tmp_path: Path) -> None:
    _, said = edge_hub("broker", "init", tmp_path / "b", "--owner", os.geteuid())
    assert (tmp_path / "b" / "hub-password").read_text().strip() not in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--host", "b:8883"), "--host is "),
        (("--root", "a/b"), "root is "),
        (("--ca", "none.crt", "none.key"), "none.crt"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, said = edge_hub("broker", "init", tmp_path / "b", "--owner", os.geteuid(), *arguments)
    assert code == EXIT_SETTINGS
    assert len(said.splitlines()) == 1
    assert complaint in said


def test_each_certificate_is_listed_with_whom_it_is_for_and_its_end(place: Path) -> None:
    assert edge_hub("certificates", "client", "w1", "--from", place, "--out", place / "clients")[0] == 0
    code, said = edge_hub("certificates", "list", place)
    assert code == 0
    shown = [re.sub(r" [0-9-]{10},| [0-9a-f]{16}…", "", line.removeprefix(f"{place}/")) for line in said.splitlines()]
    assert shown == [
        "ca.crt: CN=Holdfast private CA; ends in 7299 days; SHA-256",
        "clients/w1.crt: CN=w1; ends in 729 days; SHA-256",
        "mosquitto/ca.crt: CN=Holdfast private CA; ends in 7299 days; SHA-256",
        "mosquitto/server.crt: broker.example, localhost, 127.0.0.1, ::1; ends in 729 days; SHA-256",
    ]


def test_a_file_that_is_no_certificate_is_named_and_the_others_are_listed(place: Path) -> None:
    (place / "broken.crt").write_text("no certificate")
    code, said = edge_hub("certificates", "list", place)
    assert code == EXIT_SETTINGS
    assert "broken.crt" in said
    assert "broker.example" in said


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, said = edge_hub("certificates", "list", tmp_path / "none")
    assert (code, "none" in said) == (EXIT_SETTINGS, True)


def test_who_signs_must_be_said_once(place: Path) -> None:
    both = ("--from", place, "--ca", place / "ca.crt", place / "ca.key")
    for signers in ((), both):
        code, said = edge_hub("certificates", "client", "w1", *signers)
        assert (code, "--from, --ca" in said) == (EXIT_SETTINGS, True)


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65])
def test_a_name_that_is_no_file_or_no_common_name_is_refused(place: Path, name: str) -> None:
    code, said = edge_hub("certificates", "client", name, "--from", place, "--out", place / "clients")
    assert (code, "NAME is" in said) == (EXIT_SETTINGS, True)
    assert not (place / "clients").exists() or list((place / "clients").iterdir()) == []
