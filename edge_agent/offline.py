"""The offline directory: what an agent keeps over restarts beside its database.

`worker-id` is the name that was made for it, `belongs-to` whose results are in it, `bootstrap.json` the hub's last word
on where the broker is, and `lock` keeps a second agent from using the same directory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import IO, TYPE_CHECKING

from pydantic import ValidationError

from broker.log import get_logger
from broker.messages import Bootstrap
from edge_agent.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

ID_BYTES = 4

log = get_logger(__name__)


class OfflineDir:
    """One agent's directory, from `open` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def make(self) -> None:
        """Make the directory, where there is none. Raises `StorageError`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(self.path, f"expected a directory that can be written ({error.strerror})") from None

    def open(self) -> None:
        """Make the directory and take it. Raises `StorageError` if it cannot be written, or is in use."""
        self.make()
        try:
            self._lock = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise StorageError(self.path, f"expected a directory that can be written ({error.strerror})") from None
        try:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise StorageError(self.path, "expected a directory that no other running agent uses") from None

    def close(self) -> None:
        """Leave the directory to the next agent."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def worker_id(self) -> str:
        """Return the name that was made for this worker, once."""
        file = self.path / "worker-id"
        with contextlib.suppress(FileNotFoundError):
            kept = file.read_text(encoding="utf-8").strip()
            if kept:
                return kept
        made = f"worker-{secrets.token_hex(ID_BYTES)}"
        try:
            _write(file, f"{made}\n")
        except OSError as error:
            raise StorageError(self.path, f"expected a directory that can be written ({error.strerror})") from None
        return made

    def owner(self) -> tuple[str, str] | None:
        """Return the site and the worker whose results are in it, if any agent has been online with it."""
        with contextlib.suppress(OSError, UnicodeDecodeError, ValueError):
            site, worker = (self.path / "belongs-to").read_text(encoding="utf-8").split()
            return site, worker
        return None

    def belongs_to(self, site: str, worker: str) -> tuple[str, str] | None:
        """Keep whose results are in it from now on; return whose they were, if that is another."""
        before = self.owner()
        if before == (site, worker):
            return None
        try:
            _write(self.path / "belongs-to", f"{site} {worker}\n")
        except OSError as error:
            log.warning("owner_not_kept", path=str(self.path), reason=error.strerror)
        return before

    def keep_bootstrap(self, answer: Bootstrap) -> None:
        """Keep what the hub said, for a start without it."""
        text = answer.model_dump_json()
        if self._bootstrap_text() == text:
            return
        try:
            _write(self.path / "bootstrap.json", text)
        except OSError as error:  # a full disk, say: this run knows it, and the next one asks again
            log.warning("bootstrap_not_kept", path=str(self.path), reason=error.strerror)

    def kept_bootstrap(self) -> Bootstrap | None:
        """Return what the hub said last, if it ever did."""
        text = self._bootstrap_text()
        with contextlib.suppress(ValidationError):
            return Bootstrap.model_validate_json(text) if text else None
        return None

    def _bootstrap_text(self) -> str | None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.path / "bootstrap.json").read_text(encoding="utf-8")
        return None


def _write(file: Path, text: str) -> None:
    """Write a whole file or nothing: a power cut leaves the old one or the new one."""
    beside = file.with_name(f"{file.name}.new")
    with beside.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)
