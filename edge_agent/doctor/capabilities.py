"""Looks at what the worker declares to have, and at the Docker Engine, where it declares one."""

from __future__ import annotations

import asyncio
import grp
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from broker.doctor import bad, ok, warn
from edge_agent.detection import detect
from edge_agent.doctor.ground import me
from edge_agent.engine.connecting import connect, socket_of
from edge_agent.errors import EngineGone, EngineRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker.doctor import Finding
    from broker.messages import Scalar
    from edge_agent.doctor.ground import Ground

DOCKER = "docker"


async def look(ground: Ground) -> Sequence[Finding]:
    """Look at WORKER_CAPABILITIES, and see whether the engine is there that they name."""
    declared = ground.settings.capabilities
    found = ", ".join(f"{name}={_shown(value)}" for name, value in {**detect(), **declared}.items())
    return [ok(found), *_texts(declared), *await _engine(ground)]


def _texts(declared: dict[str, Scalar]) -> Iterator[Finding]:
    """Find texts that were meant to be something else: `{"docker": "true"}` has no engine."""
    for name, value in declared.items():
        if isinstance(value, str) and (plain := _plain(value)) is not None:
            level = bad if name == DOCKER else warn
            what = f'WORKER_CAPABILITIES: {name} is the text "{value}", which no task that requires {plain} matches'
            yield level(what, f'write it without quotes: {{"{name}": {plain}}}')


def _plain(text: str) -> str | None:
    word = text.strip().lower()
    if word in {"true", "false"}:
        return word
    try:
        float(word)
    except ValueError:
        return {"yes": "true", "no": "false", "on": "true", "off": "false"}.get(word)
    return word


def _shown(value: Scalar) -> str:
    """Return a value as JSON has it, so that a text that looks like something else is seen to be one."""
    return json.dumps(value, ensure_ascii=False)


async def _engine(ground: Ground) -> Sequence[Finding]:
    settings = ground.settings
    path = socket_of(settings.docker_url, os.environ)
    if settings.capabilities.get(DOCKER) is not True:
        return []
    try:
        client = await asyncio.to_thread(connect, settings.docker_url)
    except (EngineGone, EngineRefused) as error:
        return [_no_engine(error, Path(path) if path else None)]
    await asyncio.to_thread(client.close)
    return [ok(f"the Docker Engine answers{f' at {path}' if path else ''}"), *_images(ground)]


def _images(ground: Ground) -> Iterator[Finding]:
    if not ground.settings.allow_images:
        what = "the engine is there, and no image may run on it"
        yield warn(what, 'set WORKER_ALLOW_IMAGES, for example to ["busybox:*"], or declare no docker')


def _no_engine(error: EngineGone | EngineRefused, path: Path | None) -> Finding:
    what = f"docker is declared, and there is no Docker Engine for it: {error.reason}"
    if path is None:
        return bad(what, "check WORKER_DOCKER_URL or DOCKER_HOST, and that the engine listens there")
    try:
        about = path.stat()
    except PermissionError:
        return bad(what, f"{me()} may not look into {path.parent}")
    except OSError:
        return bad(what, f"start it (systemctl start docker); in a container, mount the socket: -v {path}:{path}")
    if os.access(path, os.R_OK | os.W_OK):
        return bad(what, "start it: systemctl start docker")
    return bad(what, _join(about.st_gid, path))


def _join(group: int, path: Path) -> str:
    try:
        name = grp.getgrgid(group).gr_name
    except KeyError:
        name = str(group)
    in_container = f"in a container: group_add: ['{group}']"
    return f"{path} is for the group {name}: usermod -aG {name} {me()}, and restart the agent; {in_container}"
