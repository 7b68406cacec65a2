"""Wheels of what Holdfast stands on, and of Holdfast itself, for hosts that install without a package index.

What it stands on is fetched once for each `constraints.txt`, and then shared by every run and every clone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

PYTHON = "3.11"
"""Of the Debian that they are installed on."""

PATIENCE_SECONDS = 600
BUILDERS = ("setuptools>=77", "wheel")
"""What our own wheel is built with."""

SOURCES = ("broker", "edge_agent", "hub", "pyproject.toml", "README.md", "LICENSE")


def make_wheels(folder: Path) -> Path:
    """Fill `folder`, which is made, with all wheels that an installation needs, and return it."""
    shutil.copytree(_libraries(), folder, copy_function=_link)
    _build(folder, folder.with_name(f"{folder.name}-source"), find_links=folder)
    return folder


def make_other_version(wheels: Path, folder: Path, version: str, *, edit: Mapping[str, str] | None = None) -> Path:
    """Fill `folder` with the same wheels, but another version of ours, and return it.

    Args:
        wheels: As `make_wheels` has made it.
        folder: Made here.
        version: What Holdfast is to call itself.
        edit: Lines to add to files of it.

    """
    shutil.copytree(wheels, folder, copy_function=_link)
    [ours] = folder.glob("holdfast-*.whl")
    old = ours.name.split("-")[1]
    with zipfile.ZipFile(ours) as given, zipfile.ZipFile(folder / ours.name.replace(old, version), "w") as made:
        for name in given.namelist():
            data = given.read(name) + f"\n{(edit or {}).get(name, '')}\n".encode()
            if name == "broker/__init__.py" or ".dist-info/" in name:
                data = data.replace(old.encode(), version.encode())
            made.writestr(name.replace(f"holdfast-{old}", f"holdfast-{version}"), data.rstrip() + b"\n")
    ours.unlink()
    return folder


def _link(path: str, place: str) -> None:
    """Give a file, which nobody changes, a second name: on another disk, a copy."""
    try:
        os.link(path, place)
    except OSError:
        shutil.copy(path, place)


def _build(folder: Path, source: Path, *, find_links: Path | None = None) -> None:
    """Build our own wheel from a copy: setuptools leaves files behind. With `find_links` no index is asked."""
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    offline = ("--no-index", "--find-links", find_links) if find_links else ()
    _pip("wheel", "--no-deps", *offline, "--wheel-dir", folder, source)


def _libraries() -> Path:
    """Return the folder of what Holdfast stands on."""
    cache = Path(os.environ.get("HOLDFAST_TEST_CACHE", "/var/cache/holdfast-tests"))
    needs = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    folder = cache / f"wheels-{hashlib.sha256(needs).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the second of two runs waits, and uses what the first has fetched
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    ours = part / "ours"
    ours.mkdir(parents=True)
    _build(ours / "wheel", ours / "source")
    own = next((ours / "wheel").glob("*.whl"))
    _pip(
        *("download", "--only-binary=:all:", "--python-version", PYTHON),
        *("--constraint", ROOT / "constraints.txt", "--dest", part, f"holdfast[agent,hub] @ file://{own}"),
        *BUILDERS,
    )
    shutil.rmtree(ours)
    for wheel in part.glob("holdfast-*.whl"):
        wheel.unlink()
    part.rename(folder)


def _pip(*arguments: str | Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check", "--no-input"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert made.returncode == 0, made.stderr
