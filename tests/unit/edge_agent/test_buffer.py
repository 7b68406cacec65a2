"""`edge-agent buffer`, as a person calls it: beside a running agent, and on files that are damaged or none."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from broker.messages import FactObserved, Outcome, TaskFinished, TaskSpec, WorkerStarted, digest, encode
from edge_agent.cli import main
from edge_agent.rules.attempts import Held, Ref
from edge_agent.store import inbox
from edge_agent.store.database import Database
from edge_agent.store.journal import Journal
from tests.support.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge_agent.store.database import Transaction

SPEC = TaskSpec(kind="noop")
GUIDE = ROOT / "docs" / "journal.md"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_OFFLINE_DIR", str(tmp_path))


def events(count: int) -> list[FactObserved]:
    return [FactObserved(at=1000 * number, subject="s", name=f"n{number}", value=1) for number in range(1, count + 1)]


@asynccontextmanager
async def running(folder: Path, count: int = 3) -> AsyncIterator[Journal]:
    """A journal that an agent has open."""
    database = Database(folder / "journal.db")
    database.open()
    journal = Journal(database)
    await journal.load()
    done = TaskFinished(at=900, task="t", attempt=1, outcome=Outcome.SUCCEEDED)
    everything = [WorkerStarted(at=1, boot="b"), done, *events(count)]
    await database.commit(partial(journal.append, events=everything))
    await database.commit(partial(inbox.hold, attempts=[Held(Ref("held", 1), SPEC, digest(SPEC), 5)]))
    try:
        yield journal
    finally:
        await database.close()


async def test_it_shows_what_waits_beside_a_running_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(tmp_path) as journal:
        (tmp_path / "journal.db.corrupt-20260101T000000.000Z").write_bytes(b"")
        main(["buffer", "--json"])
        found = json.loads(capsys.readouterr().out)
        depth, stream = journal.depth, journal.stream
        main(["buffer"])
        text = capsys.readouterr().out
    assert found["waiting"] == {"rows": 5, "bytes": depth.bytes}
    assert {name: one["rows"] for name, one in found["classes"].items()} == {"marks": 1, "results": 1, "facts": 3}
    assert (found["oldest_at"], found["newest_at"]) == (
        "1970-01-01T00:00:00.001+00:00",
        "1970-01-01T00:00:03.000+00:00",
    )
    assert (found["stream"], found["newest"], found["settled"], found["tasks_held"]) == (stream, 5, 0, 1)
    assert found["set_aside"] == [str(tmp_path / "journal.db.corrupt-20260101T000000.000Z")]
    assert f"waiting          5 events, {depth.bytes} bytes, of at most 256.0 MB" in text
    assert "tasks held       1" in text
    assert "mode             durable" in text


async def test_export_writes_a_line_for_each_event(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    async with running(tmp_path) as journal:
        main(["buffer", "export"])
        lines = capsysbinary.readouterr().out.splitlines()
        stream = journal.stream
    told = [json.loads(line) for line in lines]
    assert [(one.pop("stream"), one.pop("number")) for one in told] == [(stream, number) for number in range(1, 6)]
    assert told[2:] == [json.loads(encode(event)) for event in events(3)]


async def test_export_goes_around_pages_that_cannot_be_read(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with running(tmp_path, count=3000):
        pass
    whole = exported(tmp_path / "journal.db", capsysbinary)
    aside = tmp_path / "journal.db.corrupt-x"
    (tmp_path / "journal.db").rename(aside)
    with aside.open("r+b") as file:  # a page in the middle of the events
        file.seek(file.read().index(b'"n1500"') // 4096 * 4096)
        file.write(os.urandom(4096))
    main(["buffer", "export", "--file", str(aside)])
    shown = capsysbinary.readouterr()
    rest = [json.loads(line) for line in shown.out.splitlines()]
    missing = [one for one in whole if one not in rest]
    assert 0 < len(missing) < 200
    assert rest == [one for one in whole if one in rest]
    assert shown.err.decode() == f"{aside}: {len(missing)} of 3002 events cannot be read\n"


def exported(file: Path, capture: pytest.CaptureFixture[bytes]) -> list[dict[str, Any]]:
    main(["buffer", "export", "--file", str(file)])
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


async def test_an_event_that_is_no_json_is_counted_and_the_others_are_written(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with running(tmp_path) as journal:
        await journal._database.commit(spoil)  # noqa: SLF001
        main(["buffer", "export"])
        shown = capsysbinary.readouterr()
    assert [json.loads(line)["number"] for line in shown.out.splitlines()] == [1, 2, 4, 5]
    assert b"1 of 5 events cannot be read" in shown.err


def spoil(transaction: Transaction) -> None:
    transaction.execute("UPDATE journal SET body = x'7b' WHERE seq = 3")


@pytest.mark.parametrize("arguments", [[], ["--json"], ["export"], ["export", "--file", "nowhere.db"]])
def test_no_such_file_ends_it_with_one_line_and_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["buffer", *arguments])
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert "is no file: expected a journal" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["export"]])
def test_a_file_that_is_no_journal_ends_it_with_one_line_and_code_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SystemExit) as end:
        main(["buffer", *arguments])
    assert end.value.code == 2
    assert "cannot be read (file is not a database)" in capsys.readouterr().err


async def test_the_commands_of_the_guide_work(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    shutil.copy(tmp_path / "journal.db", tmp_path / "journal.db.corrupt-20261124T155323.000Z")
    shown = run_the_guide(GUIDE.read_text(encoding="utf-8"), tmp_path)
    for name in re.findall(r"^  ([a-z]+(?: [a-z]+)*)  ", GUIDE.read_text(encoding="utf-8"), re.MULTILINE):
        assert f"  {name} " in shown, "the example shows a line that there is not"
    assert len((tmp_path / "events.ndjson").read_text().splitlines()) == 5
    assert len((tmp_path / "rescued.ndjson").read_text().splitlines()) == 5


def run_the_guide(guide: str, folder: Path) -> str:
    """Run every command of the guide on a journal in `folder`, and return what they show."""
    script = "".join(re.findall(r"^```bash\n(.*?)^```", guide, re.MULTILINE | re.DOTALL))
    script = re.sub(r"/\S+/worker-site-a-01", str(folder), script).replace(".venv/bin", f"{ROOT}/.venv/bin")
    done = subprocess.run(["bash", "-euc", script], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
