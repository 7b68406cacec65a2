"""Where secrets come from: the operating system's randomness, and the file that holds the hub's key."""

from __future__ import annotations

import os
import secrets
import tempfile
from typing import TYPE_CHECKING

from broker.errors import SettingsError
from broker.problems import Problem, shown
from hub.rules.secrets import KEY_BYTES, TOKEN_BYTES, Prefix, Token, make_token

if TYPE_CHECKING:
    from pathlib import Path

LOST = (
    "the key that all accounts' passwords follow from, and it is gone: bring back your copy of it; without one, make "
    f"another of {KEY_BYTES} random bytes (head -c {KEY_BYTES} /dev/urandom), and let every worker enrol anew"
)


def new_token(prefix: Prefix, ca: str | None = None) -> Token:
    """Return a token that nobody can guess; `ca` is the fingerprint of the hub's certificate authority."""
    return make_token(prefix, secrets.token_bytes(TOKEN_BYTES), ca)


def open_key(path: Path, *, may_make: bool) -> bytes:
    """Return the hub's key, which is made once and then kept.

    Args:
        path: The file that holds it.
        may_make: Whether to make one where there is none: not where accounts have passwords that follow from it.

    Raises:
        SettingsError: If the file cannot be read or made, or holds no key.

    """
    try:
        if not path.exists():
            if not may_make:
                raise _wrong(path, LOST)
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise _wrong(path, f"a file that can be read, or made ({error.strerror})") from None
    if len(key) != KEY_BYTES:
        raise _wrong(path, f"a file of {KEY_BYTES} bytes, and it has {len(key)}: bring back your copy of it")
    return key


def _make(path: Path) -> None:
    """Write a new key whole, and only where there is none: a hub and a command may come here at one time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as written:  # mode 0600
        written.write(secrets.token_bytes(KEY_BYTES))
        written.flush()
        os.fsync(written.fileno())
        if os.geteuid() == 0:  # run by root, for a hub that is not root: whoever owns the directory reads it
            owner = path.parent.stat()
            os.fchown(written.fileno(), owner.st_uid, owner.st_gid)  # not by name: who owns the directory can swap it
        try:
            os.link(written.name, path)
        except FileExistsError:
            return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _wrong(path: Path, expected: str) -> SettingsError:
    return SettingsError([Problem("HUB_KEY_FILE", shown(str(path)), expected)])
