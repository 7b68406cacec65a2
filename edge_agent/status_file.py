"""The file in which an agent tells how it fares, and `edge-agent status`, which reads it.

It is what a container's health check runs again and again, so nothing is imported that is not of Python itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RENEW_SECONDS = 10.0
FRESH_SECONDS = 3 * RENEW_SECONDS
EXIT_STALE = 1
"""The exit code of `status` if no agent lives that tells there how it fares."""

_SHOWN = ("reason", "remedy", "transport", "hub", "running", "queued", "journal_rows")


@dataclass(frozen=True, slots=True)
class Read:
    """What the file says, and how old that is."""

    told: dict[str, Any]
    age_seconds: float

    @property
    def is_fresh(self) -> bool:
        """Whether an agent lives that writes it; the clock may have been set a little since."""
        return abs(self.age_seconds) <= FRESH_SECONDS


def write(file: Path, status: Mapping[str, object]) -> None:
    """Write the file, whole or not at all. Nothing waits for a disk: after a power cut it says nothing true anyhow.

    Raises:
        OSError: If it cannot be written.

    """
    at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(json.dumps({"at": at, "pid": os.getpid(), **status}), encoding="utf-8")
    beside.replace(file)


def read(file: Path, now: float) -> Read | None:
    """Return what `file` says at `now`, in Unix seconds; None if there is none. Raises `ValueError`."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"it cannot be read ({error.strerror})"
        raise ValueError(msg) from None
    try:
        at = datetime.fromisoformat(told["at"]).timestamp()
    except (KeyError, TypeError):
        msg = "it is no status of an agent"
        raise ValueError(msg) from None
    return Read(told, now - at)


def show(file: Path, *, as_json: bool) -> None:
    """Print how the agent fares. If none lives, end the program with 1 and a line that says so."""
    try:
        found = read(file, time.time())
    except ValueError as error:
        _end(f"{file}: {error}")
    if found is None:
        _end(f"no agent runs: there is no {file}")
    sys.stdout.write(f"{_in_json(found) if as_json else _for_people(found)}\n")
    if not found.is_fresh:
        _end(f"no agent runs, or it hangs: {file} is {found.age_seconds:.0f} s old")


def _in_json(found: Read) -> str:
    return json.dumps({**found.told, "age_seconds": round(found.age_seconds, 1), "fresh": found.is_fresh}, indent=2)


def _for_people(found: Read) -> str:
    told = found.told
    given = {name.replace("_", " "): told[name] for name in _SHOWN if told.get(name) is not None}
    given["told"] = f"{found.age_seconds:.0f} s ago"
    first = f"{told.get('worker')} at {told.get('site')}: {told.get('state')}"
    return "\n".join([first, *(f"  {name:<13}{value}" for name, value in given.items())])


def _end(line: str) -> NoReturn:
    sys.stderr.write(f"{line}\n")
    sys.exit(EXIT_STALE)
