"""`edge-agent doctor`: finds the usual troubles of an edge host, and says what to do about each.

It looks, and changes nothing. While an agent runs, it takes that agent's word (WORKER_STATUS_FILE) for what could be
found out only in its name: at the broker, a second connection of a name ends the first.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import structlog

from broker.doctor import Area, diagnose
from broker.errors import SettingsError
from broker.settings import load
from edge_agent.doctor import broker, capabilities, code, disk, hub, service, settings
from edge_agent.doctor.ground import Ground
from edge_agent.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def examine(config: Path | None, *, as_json: bool) -> None:
    """Look at everything, print what is found, and end the program: with 1 if anything is bad, else with 0."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # findings say it all
    sys.exit(asyncio.run(diagnose(areas(config), as_json=as_json)))


def areas(config: Path | None) -> Iterator[Area]:
    """Yield what there is to look at; without settings that can be read there is little."""
    try:
        given = load(WorkerSettings, config)
    except SettingsError as error:
        found = settings.not_read(error)
        yield Area("settings", lambda: settings.told(found))
        return
    ground = Ground(config, given)
    yield Area("settings", lambda: settings.look(ground))
    yield Area("disk", lambda: disk.look(ground))
    yield Area("hub", lambda: hub.look(ground))
    yield Area("clock", lambda: hub.look_at_clock(ground))
    yield Area("broker", lambda: broker.look(ground))
    yield Area("site", lambda: hub.look_for_site(ground))
    yield Area("capabilities", lambda: capabilities.look(ground))
    yield Area("code", lambda: code.look(ground))
    yield Area("service", lambda: service.look(ground))
