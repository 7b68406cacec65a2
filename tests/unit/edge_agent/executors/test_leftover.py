"""What is left of a command whose agent died: it is found, and nobody else is harmed."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.executors.leftover import MARK, Handle, end

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def left(script: str, mark: str | None) -> Iterator[subprocess.Popen[bytes]]:
    """Start a group of its own, as a command is; return when it has said that it is there."""
    environment = {**os.environ, **({MARK: mark} if mark else {})}
    process = subprocess.Popen(
        ["sh", "-c", script], env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == b"there\n"
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


SLEEP = "echo there; exec sleep 600"


def test_a_command_is_found_by_its_mark_alone() -> None:
    handle = Handle.new()
    with left(SLEEP, handle.mark) as process, left(SLEEP, Handle.new().mark) as other:
        assert end(handle, 2) == ([process.pid], [])
        process.wait()
        assert other.poll() is None


def test_one_that_cleared_its_environment_is_found_by_its_group() -> None:
    handle = Handle.new()
    with left("env -i sh -c 'sleep 600 & echo there; wait'", handle.mark) as process:
        found, alive = end(handle.of(process.pid), 2)
        assert process.pid in found
        assert len(found) >= 2
        assert alive == []


def test_one_that_left_the_group_and_does_not_hear_sigterm_is_killed() -> None:
    handle = Handle.new()
    with left("setsid sh -c 'trap \"\" TERM; echo there; while :; do sleep 600; done' & wait", handle.mark) as process:
        found, alive = end(handle.of(process.pid), 0.2)
        assert alive == []
        assert len(found) >= 2
        assert end(handle, 0.2) == ([], [])


def test_one_that_nobody_reaps_is_not_waited_for() -> None:
    handle = Handle.new()
    patience_seconds = 20.0
    with left(f"{MARK}={handle.mark} sh -c 'echo there; exec sleep 600' & exec sleep 600", None) as parent:
        started = time.monotonic()
        found, alive = end(handle, patience_seconds)
        assert time.monotonic() - started < patience_seconds / 2
        assert parent.poll() is None
    assert (len(found), alive) == (1, [])


def test_another_process_of_the_same_number_is_left_alone() -> None:
    with left(SLEEP, None) as other:
        handle = Handle.new().of(other.pid)
        assert handle.created is not None
        assert end(handle.model_copy(update={"created": handle.created - 100}), 0.2) == ([], [])
        assert other.poll() is None


def test_nothing_is_left_of_one_that_has_ended() -> None:
    with left("echo there", None) as process:
        process.wait()
        assert Handle.new().of(process.pid).pid is None
