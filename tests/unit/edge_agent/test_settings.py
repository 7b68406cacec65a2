"""Every setting, and the line that a wrong one gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker.access import account_of
from broker.errors import SettingsError
from broker.settings import describe, load, unknown_variables
from edge_agent.rules.urls import EXPECTED_PATTERN
from edge_agent.settings import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

NAME = "a text that matches ^[a-z0-9][a-z0-9._-]{0,62}$"


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("SLOTS", "-3", "WORKER_SLOTS is '-3': expected a whole number from 1"),
        ("SLOTS", "many", "WORKER_SLOTS is 'many': expected a whole number"),
        ("SITE", "a/b", f"WORKER_SITE is 'a/b': expected {NAME}"),
        ("SITE", "+", f"WORKER_SITE is '+': expected {NAME}"),
        ("ID", "Worker 1", f"WORKER_ID is 'Worker 1': expected {NAME}"),
        ("CAPABILITIES", "[1]", "WORKER_CAPABILITIES is [1]: expected an object"),
        ("CAPABILITIES", '{"a":[]}', "WORKER_CAPABILITIES.a is []: expected true, false, a number or a text"),
        ("CAPABILITIES", '{"a":NaN}', "WORKER_CAPABILITIES.a is NaN: expected true, false, a number or a text"),
        ("HEARTBEAT_INTERVAL_SECONDS", "nan", "WORKER_HEARTBEAT_INTERVAL_SECONDS is 'nan': expected a finite number"),
        ("POLL_INTERVAL_SECONDS", "inf", "WORKER_POLL_INTERVAL_SECONDS is 'inf': expected a finite number"),
        ("POLL_INTERVAL_SECONDS", "0", "WORKER_POLL_INTERVAL_SECONDS is '0': expected a number from 0.05"),
        ("BUFFER_MODE", "fast", "WORKER_BUFFER_MODE is 'fast': expected 'durable' or 'gentle'"),
        ("BUFFER_MAX_MB", "0", "WORKER_BUFFER_MAX_MB is '0': expected a number above 0"),
        ("ALLOW_COMMANDS", '["a ** b"]', "WORKER_ALLOW_COMMANDS[0] is 'a ** b': expected '**' as the last word only"),
        ("ALLOW_IMAGES", "[1]", "WORKER_ALLOW_IMAGES[0] is 1: expected a text"),
        (
            "ALLOW_IMAGES",
            '["busybox:"]',
            "WORKER_ALLOW_IMAGES[0] is 'busybox:': expected an image, maybe with '*': 'ghcr.io/acme/*', 'busybox:*'",
        ),
        (
            "ALLOW_MOUNTS",
            '["/srv/../etc"]',
            (
                "WORKER_ALLOW_MOUNTS[0] is '/srv/../etc': expected an absolute path without '..', or a volume: "
                "'/srv/data', '/srv/data:ro', 'cache-*'"
            ),
        ),
        (
            "DOCKER_URL",
            "http://x",
            (
                "WORKER_DOCKER_URL is 'http://x': expected unix:// and a path, or tcp:// and a host: "
                "unix:///var/run/docker.sock"
            ),
        ),
        ("ALLOW_URLS", '["http://a"]', f"WORKER_ALLOW_URLS[0] is 'http://a': expected {EXPECTED_PATTERN}"),
        (
            "PASSWORD_FILE",
            "/no/such",
            "WORKER_PASSWORD_FILE is '/no/such': expected a file that can be read (No such file or directory)",
        ),
        ("TLS_CA", "/", "WORKER_TLS_CA is '/': expected a file that can be read (Is a directory)"),
        ("LOG_LEVEL", "loud", "WORKER_LOG_LEVEL is 'loud': expected 'debug', 'info', 'warning' or 'error'"),
        ("ROOT", "a/#", "WORKER_ROOT is 'a/#': expected letters, digits, '.', '_' and '-', at most 63"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(f"WORKER_{variable}", value)
    with pytest.raises(SettingsError) as raised:
        load(WorkerSettings)
    assert str(raised.value) == line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BROKER_URL", "http://x"),
        ("BROKER_URL", "mqtt://"),
        ("BROKER_URL", "mqtt://x:99999"),
        ("BROKER_URL", "mqtt://user:secret@x"),
        ("CONTROL_PLANE_URL", "mqtt://x"),
        ("CONTROL_PLANE_URL", "http://"),
        ("CONTROL_PLANE_URL", "http://x:port"),
        ("CAPABILITIES", "{"),
        ("ALLOW_COMMANDS", "uptime"),
        ("PLUGINS", "no module"),
        ("PLUGINS", '["a"'),
        ("PLUGINS", "a,*.b"),
        ("ALLOW_URLS", "http://a/"),
        ("HTTP_CA", "/no/such"),
        ("SCHEDULE", "/no/such"),
    ],
)
def test_each_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"WORKER_{variable}", value)
    with pytest.raises(SettingsError, match=f"^WORKER_{variable}.* is .*: expected "):
        load(WorkerSettings)


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('site = "from-file"\nslots = 2\n[capabilities]\ndocker = true\n')
    monkeypatch.setenv("WORKER_SITE", "from-environment")
    settings = load(WorkerSettings, file)
    assert (settings.site, settings.slots, settings.capabilities) == ("from-environment", 2, {"docker": True})


@pytest.mark.parametrize("value", ["site.tasks,other", '["site.tasks", "other"]', " site.tasks , other "])
def test_plugins_are_listed_either_way(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WORKER_PLUGINS", value)
    assert load(WorkerSettings).plugins == ("site.tasks", "other")


@pytest.mark.parametrize("value", ["*", "back-doors", "my_site.tasks", "a.b-c,*"])
def test_a_plugin_is_named_as_a_module_or_as_it_is_installed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WORKER_PLUGINS", value)
    assert load(WorkerSettings).plugins == tuple(value.split(","))


def test_no_url_is_not_any_url(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(WorkerSettings).allow_urls is None
    monkeypatch.setenv("WORKER_ALLOW_URLS", "[]")
    assert load(WorkerSettings).allow_urls == ()


def test_secrets_are_masked_and_the_file_of_one_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from the file\n")
    monkeypatch.setenv("WORKER_PASSWORD", "hunter2")
    monkeypatch.setenv("WORKER_PASSWORD_FILE", str(file))
    settings = load(WorkerSettings)
    assert "hunter2" not in str(describe(settings))
    assert account_of(settings, "WORKER_").password == "from the file"  # noqa: S105  an example


def test_an_unknown_variable_is_warned_of_with_the_nearest_name() -> None:
    assert unknown_variables(WorkerSettings, {"WORKER_SITES": "x", "OTHER": "y"}) == [
        "WORKER_SITES is no setting; did you mean WORKER_SITE?"
    ]
