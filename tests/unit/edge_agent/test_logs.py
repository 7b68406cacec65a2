"""Tasks' logs, on real files: across restarts, over their limits, on full disks, and with readers that follow."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from edge_agent.logs import Logs
from edge_agent.rules.attempts import Ref
from edge_agent.store.logfiles import LogFiles
from edge_agent.store.logwriter import ENOUGH_BYTES, WAITING_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

REF = Ref("nightly:Backup", 1)
ALL = 1_000_000_000
MB = 1_000_000


@asynccontextmanager
async def logs_in(folder: Path, *, max_bytes: int = 16 * MB, max_total_bytes: int = 256 * MB) -> AsyncIterator[Logs]:
    logs = Logs(folder / "logs", max_bytes=max_bytes, max_total_bytes=max_total_bytes)
    try:
        yield logs
    finally:
        await logs.close()


async def whole(logs: Logs, ref: Ref) -> bytes:
    """Return all that is kept of a log, in parts as the hub reads it."""
    part = await logs.read(ref, 0, limit=1000)
    found = part.data
    while part.data:
        part = await logs.read(ref, part.offset + len(part.data), limit=100_000)
        found += part.data
    return found


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %09d\n" % number for number in range(first, last))


async def wait_for_more(logs: Logs, offset: int) -> None:
    async with asyncio.timeout(30):
        await logs.wait_for_more(REF, offset, lambda: logs.is_open(REF), 3600)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.log"))


def open_files(folder: Path) -> list[str]:
    """Return what this process has open under `folder`."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(link.readlink()))
    return [path for path in found if path.startswith(str(folder))]


def fail(_path: Path) -> None:
    raise OSError(errno.EIO, "Input/output error")


def let_be_written_at(at: int, folder: Path, pattern: str) -> None:
    for path in folder.rglob(pattern):
        os.utime(path, (at, at))


async def test_what_is_written_is_read_at_its_offset(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        log.write(b"one two ")
        log.write(b"three\n")
        part = await logs.read(REF, 4, limit=5)
        assert (part.offset, part.data, part.first, part.size) == (4, b"two t", 0, 14)
        assert (await logs.read(REF, None, tail=6, limit=ALL)).data == b"three\n"
        assert (await logs.read(REF, 99, limit=ALL)).offset == 14


async def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        logs.begin(REF).write(b"secret\n")
        await logs.read(REF, 0, limit=1)
    folder = tmp_path / "logs"
    modes = {path.relative_to(folder).suffix: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert modes == {"": 0o700, ".log": 0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_without_output_there_is_no_thread_and_no_folder(tmp_path: Path) -> None:
    before = threading.active_count()
    async with logs_in(tmp_path) as logs:
        logs.begin(REF)
        logs.end(REF)
        assert threading.active_count() == before
    assert not (tmp_path / "logs").exists()


async def test_a_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    for number in range(3):
        async with logs_in(tmp_path, max_bytes=20_000) as logs:
            logs.begin(REF).write(numbered(500 * number, 500 * (number + 1)))
    async with logs_in(tmp_path) as logs:
        part = await logs.read(REF, 0, limit=ALL)
        assert part.size == len(numbered(0, 1500))
        assert await whole(logs, REF) == numbered(0, 1500)[part.first :]


async def test_a_log_that_is_full_loses_its_oldest_half_and_offsets_stay_true(tmp_path: Path) -> None:
    written = numbered(0, 100_000)
    async with logs_in(tmp_path, max_bytes=200_000) as logs:
        log = logs.begin(REF)
        for start in range(0, len(written), 7001):
            log.write(written[start : start + 7001])
            await log.drained()
        part = await logs.read(REF, 0, limit=ALL)
        assert part.offset == part.first > 0
        assert part.size == len(written)
        assert 100_000 <= part.size - part.first <= 200_000
        assert await whole(logs, REF) == written[part.first :]
    assert size_of(tmp_path) <= 200_000


async def test_the_oldest_ended_logs_go_first_and_it_is_known_until_when(tmp_path: Path) -> None:
    async with logs_in(tmp_path, max_bytes=MB, max_total_bytes=MB) as logs:
        refs = [Ref(f"task-{number}", 1) for number in range(12)]
        for number, ref in enumerate(refs):
            logs.begin(ref).write(b"x" * 100_000)
            await logs.read(ref, 0, limit=1)  # it is written
            if number:
                logs.end(ref)
            let_be_written_at(1000 + number, tmp_path, f"task-{number}-*.log")
        kept = [(await logs.read(ref, 0, limit=1)).is_kept for ref in refs]
        assert kept == [True, *[False] * kept.count(False), *[True] * (kept.count(True) - 1)]
        assert kept.count(False) in (2, 3)
        gone = await logs.read(refs[1], 0, limit=1)
        assert gone.dropped_until == 1_000_000 + 1000 * kept.count(False)


async def test_a_flood_waits_where_it_can(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        for _ in range(200):
            log.write(b"x" * 65536)
            await log.drained()
        assert await whole(logs, REF) == b"x" * 65536 * 200


async def test_a_flood_that_does_not_wait_leaves_out_its_middle_and_says_how_much(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        held = threading.Event()

        def stall() -> None:
            held.wait()

        logs.writer.call(stall)
        for _ in range(100):
            log.write(b"x" * 65536)
        held.set()
        await log.drained()
        log.write(b"afterwards\n")
        found = await whole(logs, REF)
    lost = 100 * 65536 - found.count(b"x")
    assert 0 < found.count(b"x") <= WAITING_BYTES + ENOUGH_BYTES
    assert found.endswith(
        b"\n[holdfast: %d bytes were left out here: they came faster than the disk took them]\nafterwards\n" % lost
    )


async def test_a_disk_that_is_nearly_full_is_left_to_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    real = shutil.disk_usage
    async with logs_in(tmp_path) as logs:
        old = Ref("old", 1)
        logs.begin(old).write(b"old\n")
        await logs.read(old, 0, limit=1)
        logs.end(old)
        log = logs.begin(REF)
        log.write(b"before\n")
        await logs.read(REF, 0, limit=1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1_000_000_000, 940_000_000, 60_000_000))
        log.write(b"in vain")
        assert await whole(logs, REF) == b"before\n"
        assert not (await logs.read(old, 0, limit=1)).is_kept, "logs of the past go before the disk is called full"
        monkeypatch.setattr(shutil, "disk_usage", real)
        log.write(b"after\n")
        marker = b"\n[holdfast: 7 bytes were left out here: the disk is nearly full]\n"
        assert await whole(logs, REF) == b"before\n" + marker + b"after\n"


async def test_a_log_that_ends_on_a_full_disk_still_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        log.write(b"before\n")
        await logs.read(REF, 0, limit=1)
        monkeypatch.setattr("edge_agent.rules.logs.FREE_PARTS", 1.0)
        monkeypatch.setattr("edge_agent.rules.logs.FREE_BYTES", 10**18)
        log.write(b"in vain")
        logs.end(REF)
        assert (await whole(logs, REF)).endswith(b"[holdfast: 7 bytes were left out here: the disk is nearly full]\n")


async def test_a_folder_that_cannot_be_written_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file is in its place")
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        log.write(b"in vain")
        await log.drained()
        with pytest.raises(OSError, match="Not a directory"):
            await logs.read(REF, 0, limit=1)
        logs.end(REF)


async def test_who_follows_gets_what_comes_and_hears_of_the_end(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        log.write(b"one\n")
        await wait_for_more(logs, 0)
        following = asyncio.ensure_future(wait_for_more(logs, 4))
        await asyncio.sleep(0)
        log.write(b"two\n")
        await following
        assert (await logs.read(REF, 4, limit=ALL)).data == b"two\n"
        following = asyncio.ensure_future(wait_for_more(logs, 8))
        await asyncio.sleep(0)
        logs.end(REF)
        await following
        assert (await logs.read(REF, 8, limit=ALL)).data == b""
        await wait_for_more(logs, 8)


async def test_what_is_written_after_the_end_is_nothing(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        log.write(b"in time\n")
        logs.end(REF)
        log.write(b"late\n")
        assert await whole(logs, REF) == b"in time\n"


async def test_threads_write_together(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)

        def write() -> None:
            for number in range(1000):
                log.write(b"%099d\n" % number)

        await asyncio.gather(*(asyncio.to_thread(write) for _ in range(4)))
        lines = (await whole(logs, REF)).splitlines()
        assert len(lines) == 4000
        assert {len(line) for line in lines} == {99}


async def test_a_log_that_ends_while_its_first_output_is_written_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    append = LogFiles.append

    def slowly(files: LogFiles, ref: Ref, data: bytes, **more: bool) -> int:
        begun.set()
        goes_on.wait()
        return append(files, ref, data, **more)

    monkeypatch.setattr(LogFiles, "append", slowly)
    async with logs_in(tmp_path) as logs:
        logs.begin(REF).write(b"all of it\n")
        await asyncio.to_thread(begun.wait)
        logs.end(REF)
        goes_on.set()
        assert await whole(logs, REF) == b"all of it\n"
        assert open_files(tmp_path) == []
        assert logs.writer.ends == {}


async def test_a_thread_that_the_end_has_overtaken_does_not_open_the_log_again(tmp_path: Path) -> None:
    async with logs_in(tmp_path) as logs:
        log = logs.begin(REF)
        log.write(b"in time\n")
        logs.end(REF)
        logs.writer.put(REF, b"late\n", lambda: log.is_open)  # as `write` does once it has seen that the log is open
        assert await whole(logs, REF) == b"in time\n"
        assert open_files(tmp_path) == []


async def test_what_fails_in_the_writers_thread_keeps_nobody_else_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logs_in(tmp_path) as logs:
        logs.begin(REF).write(b"here\n")
        await logs.read(REF, 0, limit=1)
        held = threading.Event()

        def stall() -> None:
            held.wait()

        logs.writer.call(stall)
        monkeypatch.setattr(shutil, "disk_usage", fail)
        logs.give_way()
        async with asyncio.timeout(30):
            reading = asyncio.ensure_future(logs.read(REF, 0, limit=ALL))
            await asyncio.sleep(0)
            held.set()
            assert (await reading).data == b"here\n"
