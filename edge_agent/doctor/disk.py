"""Looks at the offline directory: whether it lasts, can be written, has room, and what is in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from broker.doctor import bad, ok, warn
from edge_agent.doctor.ground import me, user_name
from edge_agent.store.aside import files_set_aside
from edge_agent.store.reserve import FREE_FOR_RESERVE, RESERVE_BYTES
from edge_agent.store.sqlite import connect_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker.doctor import Finding
    from edge_agent.doctor.ground import Ground
    from edge_agent.settings import WorkerSettings

MB = 1_000_000
LOW_BYTES = 50 * MB
"""Below this there is no room for a day of most sites' results."""

FORGETFUL = {"tmpfs": "memory", "ramfs": "memory", "overlay": "the container's own layer"}
"""File systems whose files end with the machine or the container."""

_WAITING = "SELECT seq FROM sqlite_sequence WHERE name = 'journal.rows'"


async def look(ground: Ground) -> Sequence[Finding]:
    """Look at the directory, and at the journal in it."""
    path = ground.settings.offline_dir
    if not path.exists():
        return [_to_be_made(path)]
    if not path.is_dir():
        return [bad(f"WORKER_OFFLINE_DIR is '{path}', which is no directory", "name a directory")]
    refused = [*_refused(path)]
    if refused:
        return refused
    settings = ground.settings
    return [_whose(ground, path), *_strangers(path), *_forgetful(path), *_room(settings), *_journal(settings)]


def _to_be_made(path: Path) -> Finding:
    above = next(one for one in path.absolute().parents if one.exists())
    if os.access(above, os.W_OK | os.X_OK):
        return ok(f"{path} is not there yet: the agent will make it")
    what = f"{path} is not there, and {me()} may not make it in {above}"
    return bad(what, f"as root: install -d -o {me()} {path}; or set WORKER_OFFLINE_DIR")


def _refused(path: Path) -> Iterator[Finding]:
    about = path.stat()
    owner = f"{user_name(about.st_uid)}, mode {stat.S_IMODE(about.st_mode):04o}"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            yield bad(f"{path} is on a file system that is mounted to be read only", "mount it to be written")
        else:
            what = f"{path} cannot be written by {me()}: it belongs to {owner}"
            yield bad(what, f"run this as the agent's user, or as root: chown -R {me()} {path}")


def _whose(ground: Ground, path: Path) -> Finding:
    pid, owner = ground.running, ground.offline.owner()
    whose = f" of {owner[1]} at {owner[0]}" if owner else ""
    if owner and ground.worker and owner != (ground.settings.site, ground.worker):
        what = f"{path} has what was left by {owner[1]} at {owner[0]}, and this is {ground.worker} at "
        remedy = (
            "what waits in it would go by the new name: let it be delivered first, or set another WORKER_OFFLINE_DIR"
        )
        return warn(f"{what}{ground.settings.site}", remedy)
    return ok(f"{path}{whose}, used by process {pid}" if pid else f"{path}{whose}; no agent uses it now")


def _strangers(path: Path) -> Iterator[Finding]:
    """Find files that somebody else has made: started once by root, say."""
    owner = path.stat().st_uid
    for file in sorted(path.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            other = file.stat().st_uid
            if other != owner:
                name = user_name(owner)
                what = f"{file} belongs to {user_name(other)}, and the directory to {name}"
                yield bad(what, f"stop the agent, then as root: chown -R {name} {path}")
                return


def _forgetful(path: Path) -> Iterator[Finding]:
    real = path.resolve()
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    kind = next((mounts[str(one)] for one in (real, *real.parents) if str(one) in mounts), "")
    if kind in FORGETFUL:
        what = f"{path} is on {kind}: it is in {FORGETFUL[kind]}, and results that wait there end with it"
        yield warn(what, "put it on a disk; in a container, on a volume")


def _room(settings: WorkerSettings) -> Iterator[Finding]:
    path = settings.offline_dir
    free = shutil.disk_usage(path).free
    wanted = (settings.buffer_max_mb + settings.logs_max_mb) * MB - _used(path)
    at_most = "WORKER_BUFFER_MAX_MB and WORKER_LOGS_MAX_MB"
    if free < FREE_FOR_RESERVE * RESERVE_BYTES:
        yield bad(f"the disk is full: {_mb(free)} are free", "make room; until then the agent takes no tasks")
    elif free < LOW_BYTES:
        yield warn(f"only {_mb(free)} are free", f"make room, or lower {at_most}")
    elif free < wanted:
        yield warn(f"{_mb(free)} are free, and the agent may want {_mb(wanted)} more", f"make room, or lower {at_most}")
    else:
        yield ok(f"{_mb(free)} are free")
    if os.statvfs(path).f_files and not os.statvfs(path).f_favail:
        yield bad("the file system can hold no more files (no inodes are free)", "remove files that are not needed")


def _journal(settings: WorkerSettings) -> Iterator[Finding]:
    file = settings.database
    if file.exists():
        yield _readable(file)
    for aside in files_set_aside(file):
        what = f"a damaged journal was set aside: {aside}"
        yield warn(what, f"what can be read of it: edge-agent buffer export --file {aside}; then remove it")


def _readable(file: Path) -> Finding:
    try:
        with contextlib.closing(connect_to_read(file)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            waiting = connection.execute(_WAITING).fetchone()
    except sqlite3.Error as error:
        answer, waiting = str(error), None
    if answer == "ok":
        return ok(f"the journal is sound; {waiting[0] if waiting else 0} events wait for the hub")
    remedy = "the agent sets it aside when it starts, and begins another; a card or disk that fails should be replaced"
    return bad(f"{file} is damaged or no journal: {answer}", remedy)


def _used(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).stat().st_size
    return total


def _mb(size: float) -> str:
    return f"{size / MB:,.0f} MB"
