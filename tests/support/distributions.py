"""Packages that offer plugins, and are installed by pip as any other is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def install(folder: Path, name: str, modules: Mapping[str, str], plugins: Mapping[str, str]) -> Path:
    """Install a package that has `modules` and offers `plugins`; return the folder that it is in now.

    It is a wheel, so that nothing has to be built, or fetched to build it.
    """
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    points = "".join(f"{plugin} = {value}\n" for plugin, value in plugins.items())
    with zipfile.ZipFile(wheel, "w") as archive:
        for module, text in modules.items():
            archive.writestr(f"{module.replace('.', '/')}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", f"[holdfast.plugins]\n{points}")
        archive.writestr(f"{info}/RECORD", "")
    target = folder / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=60)
    return target
