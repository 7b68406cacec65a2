"""Tasks' logs: what their files are called, how large they may grow, and which of them go.

A log is a row of files. Each is named for the task, the attempt, and the offset of its first byte, so that the oldest
can go, and whoever reads on after a restart still knows where he is:

>>> file_name("nightly:Backup", 2, 0)
'8a/nightly-backup-8af258c594f47ffdf121.2.0.log'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

SLUG_LENGTH = 40
DIGEST_LENGTH = 20
SUFFIX = ".log"

FILES_A_LOG = 2
"""A log that is full loses the older of its files, which is half of it."""

BLOCK_BYTES = 4096
"""What a file takes of a disk at least: a million logs of one line each are no million bytes."""

KEPT_PARTS = 0.9
"""How much of all that may be kept is left when some had to go, so that not every new log has to look for more."""

FREE_BYTES = 64_000_000
FREE_PARTS = 0.1
"""What logs leave free on the disk, the smaller of the two: the journal has it first."""

_UNSAFE = re.compile(r"[^a-z0-9]+")
_NAME = re.compile(r"(?P<log>[a-z0-9-]+\.[1-9][0-9]*)\.(?P<start>0|[1-9][0-9]*)\.log")


def log_name(task: str, attempt: int) -> str:
    """Return what the files of a log begin with, under their folder.

    An id may hold what a file system does not take, or takes for the same (`A` and `a`): the digest tells them apart.
    """
    digest = sha256(task.encode()).hexdigest()[:DIGEST_LENGTH]
    slug = _UNSAFE.sub("-", task.lower())[:SLUG_LENGTH].strip("-")
    return f"{slug}-{digest}.{attempt}"


def folder_name(log: str) -> str:
    """Return the folder of a log: there are 256, so that none has too many files to look through."""
    return log.rpartition("-")[2][:2]


def file_name(task: str, attempt: int, start: int) -> str:
    """Return the path of the file that begins at offset `start`."""
    log = log_name(task, attempt)
    return f"{folder_name(log)}/{log}.{start}{SUFFIX}"


def read_name(name: str) -> tuple[str, int] | None:
    """Return of which log a file is, and at which offset it begins; None for a file that is no log's."""
    match = _NAME.fullmatch(name)
    return (match["log"], int(match["start"])) if match else None


@dataclass(frozen=True, slots=True)
class File:
    """One file of a log, as it is found on the disk; `written_at` is in nanoseconds."""

    log: str
    start: int
    size: int
    written_at: int

    @property
    def room(self) -> int:
        """What it takes of the disk."""
        return max(BLOCK_BYTES, self.size)


def file_bytes(max_bytes: int, max_total_bytes: int, open_logs: int) -> int:
    """Return how large a file of a log may grow.

    A log that is being written loses nothing to others. So that all logs together stay under their limit, each may
    have its share of it, where that is less than its own limit.
    """
    share = min(max_bytes, max_total_bytes // max(1, open_logs))
    return max(BLOCK_BYTES, share // FILES_A_LOG)


def must_stay_free(disk_bytes: int) -> int:
    """Return how much of a disk logs leave free."""
    return min(FREE_BYTES, int(disk_bytes * FREE_PARTS))


def to_go(files: Iterable[File], being_written: Collection[str], room: int) -> Iterator[File]:
    """Yield the files that go, so that `room` bytes become free: whole logs, and what was written last goes last."""
    logs: dict[str, list[File]] = {}
    for file in files:
        if file.log not in being_written:
            logs.setdefault(file.log, []).append(file)
    for log in sorted(logs.values(), key=lambda log: max(file.written_at for file in log)):
        if room <= 0:
            return
        yield from log
        room -= sum(file.room for file in log)


def left_out(count: int, reason: str) -> bytes:
    """Return what stands in a log for bytes that are not in it."""
    return f"\n[holdfast: {count} bytes were left out here: {reason}]\n".encode()
