"""Reads a worker's schedule file (WORKER_SCHEDULE): a table `[[job]]` for each job."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from broker.errors import SettingsError
from broker.messages import ScheduleJob
from broker.problems import Problem, explain, shown
from edge_agent.schedule.zones import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from edge_agent.rules.admission import Kind

_VARIABLE = "WORKER_SCHEDULE"
_TABLE = "job"


def read(path: Path, kinds: Mapping[str, Kind]) -> tuple[ScheduleJob, ...]:
    """Return the jobs of a file; `kinds` are those of which it is known what their params must be.

    Raises:
        SettingsError: If it cannot be read, or something in it is wrong; each problem names file, job, field and value.

    """
    jobs: list[ScheduleJob] = []
    problems: list[Problem] = []
    for number, table in enumerate(_tables(path), 1):
        where = _where(path, table, number)
        try:
            job = ScheduleJob.model_validate_json(json.dumps(table, default=_as_text))
            zone_of(job.timezone)
            kind = kinds.get(job.task.kind)
            problems += _placed(kind.problems(job.task.params) if kind else [], f"{where} task.")
        except ValidationError as error:
            problems += _placed(explain(error, root=_TABLE), f"{where} ")
        except ValueError as error:
            problems.append(Problem(f"{where} {_TABLE}", shown(table), str(error)))
        else:
            jobs.append(job)
    problems += _doubled(jobs, path)
    if problems:
        raise SettingsError(problems)
    return tuple(jobs)


def _tables(path: Path) -> list[Any]:
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Problem(_VARIABLE, f"'{path}'", f"a file that can be read ({error})")]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([Problem(_VARIABLE, f"'{path}'", f"valid TOML ({error})")]) from None
    tables = read.pop(_TABLE, [])
    if read:
        name = next(iter(read))
        raise SettingsError([Problem(f"{path}: {name}", shown(read[name]), f"nothing but tables [[{_TABLE}]]")])
    if not isinstance(tables, list):
        raise SettingsError([Problem(f"{path}: {_TABLE}", shown(tables), f"tables [[{_TABLE}]], in two brackets")])
    return tables


def _where(path: Path, table: object, number: int) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f"{path}: job {name}:" if isinstance(name, str) else f"{path}: job number {number}:"


def _placed(problems: Iterable[Problem], where: str) -> Iterator[Problem]:
    for one in problems:
        yield Problem(f"{where}{one.field}", one.value, one.expected)


def _doubled(jobs: Iterable[ScheduleJob], path: Path) -> Iterator[Problem]:
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            yield Problem(f"{path}: job {name}: name", shown(name), f"a name of its own, and {count} jobs have it")


def _as_text(value: object) -> str:
    """Write a time of TOML's as JSON has it; one without its distance from UTC is refused where it is read."""
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return str(value)
