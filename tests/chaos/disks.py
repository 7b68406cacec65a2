"""The disks of the workers: a small file system to fill, and files to damage or to take away."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_DISK = "6m"
"""Room for a journal of some thousand events and its reserve."""

PAGE_BYTES = 4096
DAMAGED_SHARE = 0.2


@functools.cache
def may_mount() -> bool:
    """Tell whether a file system can be mounted here: on Linux, by root, unless a container forbids it."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return False
    try:
        with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system at `folder`. Raises `subprocess.CalledProcessError` where that is forbidden."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "holdfast-chaos", str(folder)],
        check=True,
        capture_output=True,
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Take all the room that is left, as somebody else's program would."""
    with (folder / "somebody-elses").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(PAGE_BYTES))


def clear(folder: Path) -> None:
    """Give the room back."""
    (folder / "somebody-elses").unlink(missing_ok=True)


def damage(journal: Path, dice: float) -> list[int]:
    """Overwrite pages of a database with garbage, as a dying card would; return which.

    Only whole pages of the file itself: SQLite notices those. A write-ahead log that is damaged looks like one whose
    last transactions were never written, and a bit that flips within a value looks like another value.
    """
    if not journal.exists():
        return []
    choose = random.Random(dice)  # noqa: S311  it is to be repeated
    pages = journal.stat().st_size // PAGE_BYTES
    head = [0] if choose.random() < 0.5 else []
    some = choose.sample(range(pages), k=max(1, int(pages * DAMAGED_SHARE))) if pages else []
    damaged = sorted({*head, *some}) if pages else []
    with journal.open("r+b", buffering=0) as file:
        for page in damaged:
            file.seek(page * PAGE_BYTES)
            file.write(b"\xff" + choose.randbytes(PAGE_BYTES - 1))
        os.fsync(file)
    return damaged


def wipe(folder: Path) -> None:
    """Leave an empty disk."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
