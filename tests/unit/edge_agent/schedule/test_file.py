"""A worker's schedule file: what is read, and what a wrong one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker.errors import SettingsError
from broker.problems import Problem
from edge_agent.executors.noop import Noop
from edge_agent.schedule.file import read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from broker.messages import ScheduleJob

GOOD = '[[job]]\nname = "a"\ncron = "0 3 * * *"\ntask = { kind = "noop" }\n'


def jobs(folder: Path, text: str) -> tuple[ScheduleJob, ...]:
    file = folder / "schedule.toml"
    file.write_text(text)
    return read(file, {"noop": Noop()})


def test_each_table_is_a_job(tmp_path: Path) -> None:
    found = jobs(tmp_path, GOOD + '[[job]]\nname = "b"\nevery_seconds = 5\nstart = 2026-12-01T08:00:00+01:00\n'
                 '[job.task]\nkind = "noop"\nparams = { n = 1 }\n')  # fmt: skip

    assert [job.name for job in found] == ["a", "b"]
    assert found[1].start
    assert found[1].start.isoformat() == "2026-12-01T08:00:00+01:00"
    assert found[1].task.params == {"n": 1}


def test_a_file_without_jobs_is_one(tmp_path: Path) -> None:
    assert jobs(tmp_path, "# nothing yet\n") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[job]]\nname = "a"\n', "{file}: job a: task is missing: expected a value"),
        (
            '[[job]]\nname = "a"\ntask = { kind = "noop" }\n',
            "{file}: job a: every_seconds is null: expected either cron or every_seconds, and not both",
        ),
        ("[[job]]\ncron = 3\n", "{file}: job number 1: cron is 3: expected a text"),
        (GOOD.replace("0 3", "0 24"), '{file}: job a: cron is "0 24 * * *": expected an hour from 0 to 23'),
        (GOOD + "jiter_seconds = 3\n", "{file}: job a: jiter_seconds is 3: there is no such field"),
        (GOOD.replace("noop", "No op"), '{file}: job a: task.kind is "No op": expected a text that matches'),
        (GOOD + 'timezone = "Mars/Base"\n', '{file}: job a: timezone is "Mars/Base": expected UTC, local, or a time'),
        (GOOD + "start = 2026-12-01T08:00:00\n", '{file}: job a: start is "2026-12-01T08:00:00": expected a time with'),
        (GOOD + GOOD, '{file}: job a: name is "a": expected a name of its own, and 2 jobs have it'),
        ('name = "a"\n' + GOOD, '{file}: name is "a": expected nothing but tables [[job]]'),
        ("job = 3\n", "{file}: job is 3: expected tables [[job]], in two brackets"),
        ('[job]\nname = "a"\n', "expected tables [[job]], in two brackets"),
        ("[[job]\n", "WORKER_SCHEDULE is '{file}': expected valid TOML"),
        ("job = [3]\n", "{file}: job number 1: job is 3: expected an object"),
    ],
)
def test_a_wrong_file_is_told_file_job_key_value_and_what_was_expected(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        jobs(tmp_path, text)

    assert told.format(file=tmp_path / "schedule.toml") in str(refused.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        jobs(tmp_path, GOOD + "overlap = 1\nmisfire = 2\n" + GOOD.replace('"a"', '"b"').replace("noop", "?"))

    assert [problem.field.rpartition(" ")[2] for problem in refused.value.problems] == [
        "misfire",
        "overlap",
        "task.kind",
    ]


def test_params_are_judged_where_the_kind_is_known(tmp_path: Path) -> None:
    class Picky(Noop):
        def problems(self, params: Mapping[str, JsonValue]) -> list[Problem]:
            return [Problem("params.path", "", "a value")] if "path" not in params else []

    file = tmp_path / "schedule.toml"
    file.write_text(GOOD)
    with pytest.raises(SettingsError, match=r"job a: task\.params\.path is missing: expected a value"):
        read(file, {"noop": Picky()})
    read(file, {})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"WORKER_SCHEDULE is '.*': expected a file that can be read"):
        read(tmp_path / "none.toml", {})
