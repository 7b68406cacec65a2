"""Writes files that must not be half there, nor be read by everybody, nor take the place of another by mistake."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from broker.errors import InvalidInput
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Put `content` where `path` is, all of it or nothing; it belongs to whom the folder belongs to.

    Raises:
        InvalidInput: If it cannot be written there.

    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _create(beside, content, mode)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise not_writable(path, error) from None


def _create(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        give(descriptor, path.parent.stat())
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def make_folder(path: Path, mode: int) -> bool:
    """Make a folder and those above it, if it is not there; tell whether it was made. Raises `InvalidInput`."""
    try:
        if path.is_dir():
            return False
        path.mkdir(parents=True)
        path.chmod(mode)
    except OSError as error:
        raise not_writable(path, error) from None
    return True


def give(target: int | Path, owner: os.stat_result) -> None:
    """Let `target` belong to whom something else belongs to; only root can, and only root needs to."""
    if os.geteuid() == 0:
        os.chown(target, owner.st_uid, owner.st_gid)


def not_writable(path: Path, error: OSError) -> InvalidInput:
    """Say that something cannot be written where it belongs."""
    return InvalidInput([Problem("DIRECTORY", shown(str(path)), f"a place that can be written ({error.strerror})")])
