"""The hub's settings: limits, which are objects in a list."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from broker.errors import SettingsError
from broker.settings import describe, load, unknown_variables
from hub.rules.placement import Limit
from hub.settings import HubSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HUB_"):
            monkeypatch.delenv(name)


def test_limits_are_read_from_the_environment_and_shown_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_LIMITS", '[{"labels": {"job": "backup"}, "per": "site", "max": 1}, {"max": 9}]')
    settings = load(HubSettings)
    assert settings.limits == (Limit(labels={"job": "backup"}, per="site", max=1), Limit(max=9))
    assert describe(settings)["limits"] == '[{"labels": {"job": "backup"}, "per": "site", "max": 1}, {"max": 9}]'


def test_limits_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('[[limits]]\nkind = "container"\nsite = "site-a"\nmax = 2\n', encoding="utf-8")
    assert load(HubSettings, file).limits == (Limit(kind="container", site="site-a", max=2),)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ('[{"max": -1}]', "HUB_LIMITS[0].max is -1: expected a whole number from 0"),
        ('[{"max": 1}, {}]', "HUB_LIMITS[1].max is missing: expected a value"),
        ('[{"max": 1, "par": "site"}]', "HUB_LIMITS[0].par is 'site': there is no such field"),
        ('[{"max": 1, "per": "rack"}]', "HUB_LIMITS[0].per is 'rack': expected 'fleet', 'site' or 'worker'"),
        ('{"max": 1}', 'HUB_LIMITS is {"max": 1}: expected an array'),
    ],
)
def test_a_wrong_limit_names_itself_and_its_field(monkeypatch: pytest.MonkeyPatch, value: str, line: str) -> None:
    monkeypatch.setenv("HUB_LIMITS", value)
    with pytest.raises(SettingsError) as caught:
        load(HubSettings)
    assert [str(problem) for problem in caught.value.problems] == [line]


def test_a_wrong_limit_of_a_file_is_named_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text("[[limits]]\nmax = 'many'\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(HubSettings, file)
    assert [str(problem) for problem in caught.value.problems] == ["limits[0].max is 'many': expected a whole number"]


def test_proxies_are_addresses_or_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TRUSTED_PROXIES", '["10.0.0.7", "172.18.0.0/16", "::1"]')
    assert load(HubSettings).trusted_proxies == ("10.0.0.7", "172.18.0.0/16", "::1")


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.0.0.7/8", ""])
def test_what_is_no_address_of_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("HUB_TRUSTED_PROXIES", f'["{wrong}"]')
    with pytest.raises(SettingsError) as caught:
        load(HubSettings)
    line = f"HUB_TRUSTED_PROXIES[0] is '{wrong}': expected an address or a network, as in 10.0.0.7 or 10.0.0.0/8"
    assert [str(problem) for problem in caught.value.problems] == [line]


def test_what_the_commands_read_is_not_taken_for_a_misspelt_setting() -> None:
    beside = dict.fromkeys(("HUB_URL", "HUB_TOKEN", "HUB_TOKEN_FILE", "HUB_CA"), "x")
    assert unknown_variables(HubSettings, beside) == []
    assert unknown_variables(HubSettings, {"HUB_TOKENS": "x"}) == ["HUB_TOKENS is no setting; did you mean HUB_TOKEN?"]
