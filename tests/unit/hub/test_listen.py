"""Where the hub listens, and what it says where it cannot."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from broker.errors import SettingsError
from broker.settings import load
from hub.listening import listen
from hub.rules.callers import ANYBODY
from hub.rules.roles import Role
from hub.rules.tokens import ApiToken
from hub.settings import HubSettings
from hub.store.tokens import add_token

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine


def test_it_listens_on_a_free_port_of_loopback_and_answers_without_delay() -> None:
    with listen(HubSettings(http_port=0)) as listener:
        host, port = listener.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_tokens_it_does_not_listen_beyond_loopback() -> None:
    with pytest.raises(SettingsError) as caught:
        listen(HubSettings(http_host="0.0.0.0", http_port=0))  # noqa: S104
    (problem,) = caught.value.problems
    assert (problem.field, problem.value) == ("HUB_HTTP_HOST", '"0.0.0.0"')
    assert "HUB_ALLOW_ANONYMOUS" in problem.expected


@pytest.mark.parametrize("revoked", [None, 2])
def test_with_a_token_it_does_even_if_that_holds_no_more(engine: Engine, revoked: int | None) -> None:
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        add_token(connection, ApiToken("aaaaaaaa", "ci", Role.VIEWER, "0" * 64, 1, revoked_ms=revoked), ANYBODY)
    settings = HubSettings(http_host="0.0.0.0", http_port=0, database_url=str(engine.url))  # noqa: S104
    with listen(settings) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"  # noqa: S104


def test_a_database_without_a_token_is_none(engine: Engine) -> None:
    with pytest.raises(SettingsError):
        listen(HubSettings(http_host="0.0.0.0", http_port=0, database_url=str(engine.url)))  # noqa: S104


def test_to_look_for_tokens_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        listen(HubSettings(http_host="0.0.0.0", http_port=0, database_url=f"sqlite:///{tmp_path}/hub.db"))  # noqa: S104
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("told", ["allow_anonymous", "require_tokens"])
def test_it_does_where_it_is_told_to(told: str) -> None:
    with listen(HubSettings.model_validate({"http_host": "0.0.0.0", "http_port": 0, told: True})) as listener:  # noqa: S104
        assert listener.getsockname()[0] == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2"])
def test_every_name_of_loopback_is_one(host: str) -> None:
    with listen(HubSettings(http_host=host, http_port=0)) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_that_is_taken_is_named() -> None:
    with listen(HubSettings(http_port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError) as caught:
            listen(HubSettings(http_port=port))
    assert str(caught.value).startswith(f"HUB_HTTP_PORT is {port}: expected a port that is free on 127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HUB_HTTP_PORT", "70000", "HUB_HTTP_PORT is '70000': expected a whole number up to 65535"),
        ("HUB_BROKER_URL", "localhost", "HUB_BROKER_URL is 'localhost': expected mqtt://"),
        (
            "HUB_BROKER_URL",
            "mqtt://me:secret@localhost",
            "HUB_BROKER_URL is 'mqtt://…@localhost': expected no account in the URL",
        ),
        ("HUB_ROOT", "a/b", "HUB_ROOT is 'a/b': expected letters, digits"),
        ("HUB_LOST_AFTER_SECONDS", "0", "HUB_LOST_AFTER_SECONDS is '0': expected a number above 0"),
        ("HUB_LOG_LEVEL", "loud", "HUB_LOG_LEVEL is 'loud': expected"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(HubSettings)
    assert str(caught.value.problems[0]).startswith(words)
    assert "secret" not in str(caught.value)
