"""The examples of docs/handlers.md beside its commands: its tests are run, and its package is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from edge_agent.plugins import GROUP, load
from tests.support.distributions import install
from tests.support.programs import ROOT, clean_environment

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = (ROOT / "docs/handlers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, text in zip(("my_site.py", "test_my_site.py"), blocks("python"), strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_tests_of_the_guide_pass(site: Path) -> None:
    command = blocks("sh")[0].split()[1:]
    environment = {**clean_environment({}), "PYTHONPATH": f"{ROOT}:{site}"}
    done = subprocess.run(
        [sys.executable, *command, "-p", "no:cacheprovider"],
        cwd=site,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_a_package_that_says_what_the_guide_says_offers_the_handlers(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project,) = (tomllib.loads(text)["project"] for text in blocks("toml"))
    source = (site / "my_site.py").read_text(encoding="utf-8")
    (site / "my_site.py").unlink()
    target = install(tmp_path, "holdfast_my_site", {"my_site": source}, project["entry-points"][GROUP])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.syspath_prepend(target)
    (agent,) = load(project["entry-points"][GROUP])
    assert sorted(agent.handlers) == ["camera.snapshot", "disk.watch"]
