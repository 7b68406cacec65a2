"""Settings: the environment before the file before the defaults, and one clear line for what is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from broker.errors import SettingsError
from broker.settings import EXIT_SETTINGS, ProgramSettings, describe, load, load_or_exit, unknown_variables

if TYPE_CHECKING:
    from pathlib import Path


class Example(ProgramSettings):
    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")

    port: int = Field(default=8000, ge=1, le=65535)
    name: str = "nobody"
    labels: dict[str, str] = Field(default={})
    urls: tuple[str, ...] = ()
    ratio: float = 0.5
    password: SecretStr | None = None


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EXAMPLE_"):
            monkeypatch.delenv(name)


def write(directory: Path, text: str) -> Path:
    file = directory / "example.toml"
    file.write_text(text, encoding="utf-8")
    return file


def lines(error: SettingsError) -> list[str]:
    return [str(problem) for problem in error.problems]


def test_the_environment_goes_before_the_file_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, 'port = 1\nname = "from the file"\n')
    monkeypatch.setenv("EXAMPLE_PORT", "2")
    settings = load(Example, file)
    assert (settings.port, settings.name, settings.ratio) == (2, "from the file", 0.5)


def test_json_is_read_where_more_than_a_text_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_LABELS", '{"team": "infra"}')
    monkeypatch.setenv("EXAMPLE_URLS", '["a", "b"]')
    settings = load(Example)
    assert settings.labels == {"team": "infra"}
    assert settings.urls == ("a", "b")


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("EXAMPLE_PORT", "-3", "EXAMPLE_PORT is '-3': expected a whole number from 1"),
        ("EXAMPLE_PORT", "many", "EXAMPLE_PORT is 'many': expected a whole number"),
        ("EXAMPLE_PORT", "", "EXAMPLE_PORT is '': expected a whole number"),
        ("EXAMPLE_RATIO", "nan", "EXAMPLE_RATIO is 'nan': expected a finite number"),
        ("EXAMPLE_LABELS", "[1]", "EXAMPLE_LABELS is [1]: expected an object"),
        ("EXAMPLE_LABELS", '{"team": 3}', "EXAMPLE_LABELS.team is 3: expected a text"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(Example)
    assert lines(caught.value) == [line]


def test_bad_json_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_LABELS", "{docker: true}")
    with pytest.raises(SettingsError) as caught:
        load(Example)
    (line,) = lines(caught.value)
    assert line.startswith("EXAMPLE_LABELS is '{docker: true}': expected valid JSON (")


def test_a_key_of_the_file_that_is_no_setting_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, write(tmp_path, "prot = 80\n"))
    assert lines(caught.value) == ["prot is 80: expected a setting; did you mean port?"]


def test_a_key_like_no_other_is_just_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, write(tmp_path, "xyzzy = 1\n"))
    assert lines(caught.value) == ["xyzzy is 1: there is no such field"]


def test_a_wrong_value_of_the_file_is_named_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, write(tmp_path, 'port = 0\nname = ["a"]\n'))
    assert lines(caught.value) == ["port is 0: expected a whole number from 1", 'name is ["a"]: expected a text']


@pytest.mark.parametrize("text", ["port = ", "port 3", '"'])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, write(tmp_path, text))
    (line,) = lines(caught.value)
    assert line.startswith("--config is ")
    assert "example.toml" in line
    assert "valid TOML" in line


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, tmp_path / "none.toml")
    assert "none.toml" in str(caught.value)
    assert "a file that can be read" in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"binary\.toml"):
        load(Example, file)


def test_a_wrong_setting_ends_the_program_with_a_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_PORT", "0")
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Example)
    assert caught.value.code == EXIT_SETTINGS == 2
    assert capsys.readouterr().err == "EXAMPLE_PORT is '0': expected a whole number from 1\n"


def test_settings_are_described_with_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_PASSWORD", "hunter2")
    monkeypatch.setenv("EXAMPLE_URLS", '["a"]')
    described = describe(load(Example))
    assert described == {
        "port": "8000",
        "name": "nobody",
        "labels": "{}",
        "urls": '["a"]',
        "ratio": "0.5",
        "password": "********",
    }


def test_the_account_in_a_url_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_URLS", '["smtp://me:hunter2@mail.example/x", "http://plain.example/@home"]')
    assert describe(load(Example))["urls"] == '["smtp://…@mail.example/x", "http://plain.example/@home"]'


def test_a_secret_that_is_not_set_is_shown_empty() -> None:
    assert describe(load(Example))["password"] == ""


def test_a_secret_is_not_told_by_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXAMPLE_PORT", "0")
    with pytest.raises(SettingsError) as caught:
        load(Example, write(tmp_path, 'password = "hunter2"\n'))
    assert "hunter2" not in str(caught.value)


def test_variables_that_are_no_setting_are_warned_of() -> None:
    environment = {"EXAMPLE_PROT": "1", "EXAMPLE_PORT": "1", "EXAMPLE_XYZZY_PLUGH": "1", "OTHER_PORT": "1"}
    assert unknown_variables(Example, environment) == [
        "EXAMPLE_PROT is no setting; did you mean EXAMPLE_PORT?",
        "EXAMPLE_XYZZY_PLUGH is no setting",
    ]


@pytest.mark.parametrize("text", ["password = 4711", 'pasword = "4711"', 'password = ["4711"]'])
def test_a_secret_that_is_wrong_is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, write(tmp_path, text))
    assert "********" in str(caught.value)
    assert "4711" not in str(caught.value)
