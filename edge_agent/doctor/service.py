"""Looks at the agent as a service of systemd, where there is one."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from broker.doctor import bad, ok, warn
from edge_agent.doctor.ground import me

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker.doctor import Finding
    from edge_agent.doctor.ground import Ground

UNIT = "edge-agent.service"
RUNS_SYSTEMD = Path("/run/systemd/system")
"""sd_booted(3)."""

SHOW_SECONDS = 5.0
MANY_RESTARTS = 3
_SHOWN = "LoadState,ActiveState,SubState,Result,NRestarts,User,ExecStart,UnitFileState"


async def look(ground: Ground) -> Sequence[Finding]:
    """Ask systemd about the unit."""
    unit = await _show()
    if unit is None or unit.get("LoadState") != "loaded":
        pid = ground.running
        return [ok(f"no {UNIT} here; the agent runs as process {pid}" if pid else f"no {UNIT} here, and no agent runs")]
    return [*_state(unit), *_same_settings(unit, ground), *_same_user(unit)]


async def _show() -> Mapping[str, str] | None:
    if not _runs_systemd():
        return None
    process = await asyncio.create_subprocess_exec(
        "systemctl", "show", UNIT, "-p", _SHOWN,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SHOW_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        return None
    return read(out.decode(errors="replace"))


def _runs_systemd() -> bool:
    return RUNS_SYSTEMD.is_dir() and shutil.which("systemctl") is not None


def read(text: str) -> dict[str, str]:
    r"""Return what `systemctl show` says, by name.

    >>> read("LoadState=loaded\nUser=holdfast\n")
    {'LoadState': 'loaded', 'User': 'holdfast'}
    """
    return {name: value for name, equals, value in (line.partition("=") for line in text.splitlines()) if equals}


def _state(unit: Mapping[str, str]) -> Sequence[Finding]:
    state, restarts = unit.get("ActiveState", ""), int(unit.get("NRestarts") or 0)
    if state == "failed":
        what = f"{UNIT} has failed ({unit.get('Result')})"
        return [bad(what, f"journalctl -u {UNIT} -n 50 says why; then systemctl restart {UNIT}")]
    if state != "active":
        what = f"{UNIT} is {state or 'unknown'} ({unit.get('SubState')})"
        return [warn(what, f"systemctl start {UNIT}; journalctl -u {UNIT} -n 50 says what it does")]
    found = [ok(f"{UNIT} is active")]
    if restarts > MANY_RESTARTS:
        found.append(warn(f"it was restarted {restarts} times", f"journalctl -u {UNIT} says why"))
    if unit.get("UnitFileState") == "disabled":
        found.append(warn("it does not start when the machine does", f"systemctl enable {UNIT}"))
    return found


def _same_settings(unit: Mapping[str, str], ground: Ground) -> Sequence[Finding]:
    named = re.search(r"--config[= ](\S+)", unit.get("ExecStart", ""))
    config = Path(named[1]) if named else None
    if config is None or (ground.config and ground.config.resolve() == config.resolve()):
        return []
    what = f"the service has the settings of {config}, and what stands here is of others"
    return [warn(what, f"look again with them: edge-agent doctor --config {config}")]


def _same_user(unit: Mapping[str, str]) -> Sequence[Finding]:
    user = unit.get("User") or "root"
    if me() in (user, "root"):  # root reads what a service is given of its secrets, which its user cannot
        return []
    return [warn(f"the service runs as {user}, and this as {me()}, who may see more or less", f"sudo -u {user} …")]
