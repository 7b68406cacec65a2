"""How an agent tells how it fares, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from edge_agent import status
from edge_agent.cli import main
from edge_agent.status import State, Status, keep_telling
from edge_agent.status_file import FRESH_SECONDS, read, write

if TYPE_CHECKING:
    from pathlib import Path


def at(state: State = State.ONLINE, reason: str | None = None) -> Status:
    return Status(
        worker="w1",
        site="site-a",
        state=state,
        transport="mqtt",
        hub="https://hub.example",
        running=1,
        queued=0,
        journal_rows=7,
        reason=reason,
        remedy="enrol again" if reason else None,
    )


def told(state: State = State.ONLINE, reason: str | None = None) -> dict[str, object]:
    return asdict(at(state, reason))


async def until(file: Path, word: str) -> None:
    """Wait until the file has a word."""
    async with asyncio.timeout(10):
        while not (file.exists() and word in file.read_text()):  # noqa: ASYNC110, ASYNC240  a file tells nobody
            await asyncio.sleep(0.01)


async def test_it_is_told_at_once_and_at_each_change_and_goes_when_the_agent_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "LOOK_SECONDS", 0.01)
    file, now = tmp_path / "status.json", [at(State.CONNECTING, "no broker")]
    lines: list[str] = []
    telling = asyncio.create_task(keep_telling(lambda: now[0], file, lines.append))
    await until(file, "connecting")
    assert json.loads(file.read_text())["reason"] == "no broker"
    now[0] = at()
    await until(file, "online")
    assert lines == [
        "connecting: w1 at site-a, 1 running, 0 queued, 7 events wait for the hub (no broker)",
        "online by mqtt: w1 at site-a, 1 running, 0 queued, 7 events wait for the hub",
    ]
    telling.cancel()
    await asyncio.wait([telling])
    assert not file.exists()


async def test_an_agent_goes_on_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOOK_SECONDS", 0.01)
    told = asyncio.Event()
    telling = asyncio.create_task(keep_telling(at, tmp_path / "nowhere" / "status.json", lambda _: told.set()))
    await asyncio.wait_for(told.wait(), 10)
    await asyncio.sleep(0)
    assert not telling.done()
    telling.cancel()
    await asyncio.wait([telling])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where WORKER_STATUS_FILE points."""
    monkeypatch.setenv("WORKER_STATUS_FILE", str(tmp_path / "status.json"))
    return tmp_path / "status.json"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        main(["status", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_fresh_one_is_shown_with_exit_code_0(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, told(State.CONNECTING, "the broker refuses the account 'w1'"))
    code, out, err = shown(capsys)
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        "w1 at site-a: connecting",
        "  reason       the broker refuses the account 'w1'",
        "  remedy       enrol again",
    ]
    found = json.loads(shown(capsys, "--json")[1])
    assert (found["state"], found["fresh"], found["journal_rows"]) == ("connecting", True, 7)


def test_an_old_one_is_of_no_agent_that_lives(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, told())
    later = time.time() + FRESH_SECONDS + 5
    monkeypatch.setattr(time, "time", lambda: later)
    code, out, err = shown(capsys)
    assert code == 1
    assert "no agent runs, or it hangs" in err
    assert "online" in out


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"at": 1}'])
def test_none_at_all_and_what_is_none_are_told_apart(
    file: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    if text is not None:
        file.write_text(text)
    code, _, err = shown(capsys)
    assert code == 1
    assert ("no agent runs: there is no" in err) is (text is None)


def test_without_the_setting_it_is_said_which_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORKER_STATUS_FILE", raising=False)
    code, _, err = shown(capsys)
    assert code == 1
    assert err.startswith("WORKER_STATUS_FILE is not set")


def test_a_file_says_how_old_it_is(file: Path) -> None:
    write(file, told())
    found = read(file, time.time() + 12)
    assert found is not None
    assert 11.5 < found.age_seconds < 13


def test_a_health_check_imports_next_to_nothing(file: Path) -> None:
    """It runs each half minute on boards that have better things to do."""
    write(file, told())
    text = "import sys; from edge_agent.cli import main; main(['status']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert not {"pydantic", "structlog", "asyncio", "ssl"} & set(done.stdout.split())


async def test_where_nobody_is_told_nothing_is_looked_at() -> None:
    """An idle agent sleeps: each second that it wakes for costs a small machine's battery."""

    def never() -> Status:
        raise AssertionError

    async with asyncio.timeout(10):
        await keep_telling(never, None)
