"""Looks at the settings: wrong ones, misspelt ones, and the credentials."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from broker.doctor import bad, ok, warn
from broker.problems import NO_SUCH_FIELD
from broker.settings import unknown_variables
from edge_agent.credentials import PRIVATE
from edge_agent.rules.enrolling import goes_in_clear
from edge_agent.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from broker.doctor import Finding
    from broker.errors import SettingsError
    from broker.problems import Problem
    from edge_agent.doctor.ground import Ground

MADE_BY = "edge-hub workers enrol --site …"


async def told(found: Sequence[Finding]) -> Sequence[Finding]:
    """Return what was found already."""
    return found


def not_read(error: SettingsError) -> list[Finding]:
    """Say which settings are wrong; nothing else can be looked at."""
    return [bad(str(problem), f"{_where(problem)}; then the rest can be looked at") for problem in error.problems]


async def look(ground: Ground) -> Sequence[Finding]:
    """Look at what was set, and at the credentials."""
    return [_sources(ground), *_misspelt(), *_credentials(ground)]


def _where(problem: Problem) -> str:
    what = "correct it" if problem.expected != NO_SUCH_FIELD else "correct or remove it"
    return f"{what} in the environment" if problem.field.startswith("WORKER_") else f"{what} in the file"


def _sources(ground: Ground) -> Finding:
    known = {f"WORKER_{name.upper()}" for name in WorkerSettings.model_fields}
    count = len(known & set(os.environ))
    variables = f"{count} variable{'' if count == 1 else 's'} of the environment"
    return ok(f"{ground.config} and {variables}" if ground.config else f"{variables}, no --config FILE")


def _misspelt() -> Iterator[Finding]:
    for warning in unknown_variables(WorkerSettings):
        yield warn(f"{warning}: it is not used", "correct the name, or remove it")


def _credentials(ground: Ground) -> Iterator[Finding]:
    if ground.wrong:
        for problem in ground.wrong.problems:
            yield bad(str(problem), "correct the setting, or enrol this worker again: edge-agent enrol --replace")
        return
    file, settings = ground.given.credentials_file, ground.settings
    if file.exists():
        yield ok(f"credentials of {settings.id} at {settings.site}: {file}")
        yield from _readable_to_others(file)
    elif ground.identity and ground.identity.may_be_enrolled:
        yield warn(f"not enrolled yet: there is no {file}", "the agent trades its token when it starts; see below")
    elif settings.username is None:
        yield ok("no account: neither credentials nor WORKER_USERNAME")
    if goes_in_clear(settings.control_plane_url) and ground.account.username:
        what = f"the password can be read on its way to {settings.control_plane_url}"
        yield warn(what, "serve the hub by https, and set WORKER_CONTROL_PLANE_URL")


def _readable_to_others(file: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & ~PRIVATE:
        yield warn(f"others may read the password: {file} has the mode {mode:04o}", f"chmod 600 {file}")
