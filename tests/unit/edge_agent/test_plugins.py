"""Plugins: modules beside the settings, and what installed packages offer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import PluginError
from edge_agent.plugins import load
from tests.support.distributions import install

if TYPE_CHECKING:
    from pathlib import Path

ONE_AGENT = "from edge_agent import Agent\nagent = Agent()\n@agent.task('{kind}')\ndef run(ctx): return 1\n"


@pytest.fixture(autouse=True)
def _own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def kinds(*names: str) -> list[list[str]]:
    return [sorted(agent.handlers) for agent in load(names)]


def test_modules_are_found_beside_the_settings_and_told_apart(tmp_path: Path) -> None:
    (tmp_path / "holdfast_site_a.py").write_text("from edge_agent import Agent\nagent = Agent()\nsame = agent\n")
    (tmp_path / "holdfast_site_b.py").write_text("from holdfast_site_a import agent\n")
    (tmp_path / "holdfast_site_c.py").write_text("1 / 0\n")
    (tmp_path / "holdfast_site_d.py").write_text("agent = 1\n")
    assert len(load(["holdfast_site_a", "holdfast_site_b"])) == 1
    with pytest.raises(PluginError, match=r"WORKER_PLUGINS is 'holdfast_site_c': .*ZeroDivisionError"):
        load(["holdfast_site_c"])
    with pytest.raises(PluginError, match=r"'holdfast_site_d': expected an edge_agent.Agent, or a module that"):
        load(["holdfast_site_d"])


def test_an_installed_package_offers_its_plugins_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"holdfast_cameras": ONE_AGENT.format(kind="camera"), "holdfast_doors": ONE_AGENT.format(kind="door")}
    target = install(
        tmp_path,
        "holdfast_example",
        modules,
        {"cameras": "holdfast_cameras", "back-doors": "holdfast_doors:agent", "broken": "holdfast_cameras:nothing"},
    )
    monkeypatch.syspath_prepend(target)
    assert kinds() == []  # what is installed is not loaded because of that
    assert "holdfast_cameras" not in sys.modules
    assert kinds("cameras") == [["camera"]]
    assert kinds("back-doors", "cameras") == [["door"], ["camera"]]
    assert kinds("holdfast_doors") == [["door"]]  # as a module, whatever it is offered as
    for name in ("broken", "*"):
        with pytest.raises(PluginError, match=r"plugin 'broken' of holdfast_example 1.0, holdfast_cameras:nothing: "):
            kinds(name)
    with pytest.raises(PluginError, match=r"'camera': .* or an installed plugin: back-doors, broken, cameras"):
        kinds("camera")


def test_a_star_is_every_installed_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"holdfast_gates": ONE_AGENT.format(kind="gate"), "holdfast_lamps": ONE_AGENT.format(kind="lamp")}
    target = install(tmp_path, "holdfast_more", modules, {"lamps": "holdfast_lamps", "gates": "holdfast_gates"})
    monkeypatch.syspath_prepend(target)
    assert kinds("*") == [["gate"], ["lamp"]]
    assert kinds("lamps", "*") == [["lamp"], ["gate"]]
    install(
        tmp_path, "holdfast_other", {"holdfast_torches": ONE_AGENT.format(kind="torch")}, {"lamps": "holdfast_torches"}
    )
    with pytest.raises(PluginError, match="lamps is a plugin of holdfast_more and holdfast_other"):
        kinds("*")


def test_without_any_plugin_a_star_is_nothing() -> None:
    assert kinds("*") == []
