"""Sets aside what a restore replaces: under another name, whole, and never deleted."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from broker.clock import wall_ms
from hub.kept_files import PRIVATE, write_file
from hub.store.files import beside

if TYPE_CHECKING:
    from pathlib import Path


def put_key(key_file: Path, key: bytes | None) -> tuple[Path, ...]:
    """Put the key in its place, before the database that needs it; return where another is now."""
    if key is None or (key_file.exists() and key_file.read_bytes() == key):
        return ()
    aside = (_also_as(key_file, _aside(key_file)),) if key_file.exists() else ()
    key_file.parent.mkdir(parents=True, exist_ok=True)
    write_file(key_file, key, PRIVATE)
    return aside


def set_aside(database: Path) -> tuple[Path, ...]:
    """Give what is there another name, under which SQLite can open it with its log; the database keeps its own too."""
    aside = _aside(database)
    found = beside(database)
    kept = tuple(_also_as(path, aside.with_name(path.name.replace(database.name, aside.name, 1))) for path in found)
    for path in found:
        if path != database:  # the log of the old one must not be taken for that of the new one
            path.unlink()
    return kept


def _aside(path: Path) -> Path:
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_ms() / 1000))
    return path.with_name(f"{path.name}.before-{when}")


def _also_as(path: Path, name: Path) -> Path:
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        shutil.copy2(path, name)
    return name
