"""The files in config/ name every setting, and are valid when every line of them is used."""

import re
import tomllib
from pathlib import Path

import pytest

from broker.messages import ScheduleJob, TaskSpec
from broker.settings import ProgramSettings
from edge_agent.schedule.file import read as read_schedule
from edge_agent.settings import WorkerSettings
from hub.settings import HubSettings

CONFIG = Path(__file__).parents[2] / "config"
FILES = [("agent.toml", WorkerSettings), ("hub.toml", HubSettings)]


@pytest.mark.parametrize(("name", "kind"), FILES)
def test_a_file_shows_every_setting_and_no_other(name: str, kind: type[ProgramSettings]) -> None:
    shown = re.findall(r"^#(\w+) = ", (CONFIG / name).read_text(encoding="utf-8"), re.MULTILINE)

    assert shown == list(kind.model_fields)


@pytest.mark.parametrize(("name", "kind"), FILES)
def test_what_stands_behind_the_mark_is_the_default(name: str, kind: type[ProgramSettings]) -> None:
    text = re.sub(r"^#(\w+ = )", r"\1", (CONFIG / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    given = tomllib.loads(text)

    for setting, field in kind.model_fields.items():
        if field.default is not None:
            expected = list(field.default) if isinstance(field.default, tuple) else field.default
            assert given[setting] == (str(expected) if isinstance(expected, Path) else expected)


def test_the_schedule_is_one_and_shows_every_key_of_a_job_and_its_task() -> None:
    example, *others = read_schedule(CONFIG / "schedule.toml", {})
    text = (CONFIG / "schedule.toml").read_text(encoding="utf-8").partition("\n[[job]]")[2].partition("\n[[job]]")[0]
    job, _, task = text.partition("[job.task]")

    assert re.findall(r"^#?(\w+) = ", job, re.MULTILINE) == [
        name for name in ScheduleJob.model_fields if name != "task"
    ]
    assert set(re.findall(r"^#?(\w+) = ", task, re.MULTILINE)) == TaskSpec.model_fields.keys() - {"target"}
    assert example == ScheduleJob(name="example", cron="0 3 * * *", task=TaskSpec(kind="noop"))
    assert others
