"""The files in config/ name every setting, and are valid when every line of them is used."""

import re
import tomllib
from pathlib import Path

import pytest

from broker.settings import ProgramSettings
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
