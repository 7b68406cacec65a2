"""`edge-agent`: `run` an agent, `enrol` it, ask how it fares, or look into its `buffer`.

Each command imports what it needs when it is given: an agent that runs carries none of the others, and `status`, which
a container's health check runs each half minute, hardly anything at all.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.arguments import parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from edge_agent.framework import Agent
    from edge_agent.settings import WorkerSettings

STATUS_FILE = "WORKER_STATUS_FILE"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and do what it says."""
    options = parser().parse_args(arguments)
    match options.command:
        case "run":
            run_agent(config=options.config)
        case "enrol":
            _enrol(options)
        case "status":
            _show_status(options)
        case "doctor":
            _examine(options)
        case "buffer" if options.action == "export":
            _export_buffer(options)
        case "buffer":
            _show_buffer(options)


def run_agent(*, config: Path | None = None, agents: Sequence[Agent] = ()) -> None:
    """Run an agent with the handlers of `agents` and of the plugins, until it is stopped.

    A wrong setting, an offline directory that cannot be written, or a plugin that cannot be used ends the program with
    one line and exit code 2.
    """
    from broker import log  # noqa: PLC0415
    from broker.errors import InvalidInput  # noqa: PLC0415
    from broker.settings import fail, log_settings  # noqa: PLC0415

    settings = _settings(config)
    log.configure(level=settings.log_level, style=settings.log_format)

    import asyncio  # noqa: PLC0415

    from edge_agent.app import App  # noqa: PLC0415  it logs, so the log is configured first
    from edge_agent.errors import PluginError, StorageError  # noqa: PLC0415

    try:
        app = App(settings, agents)
        app.open()
    except StorageError as error:
        fail(f"WORKER_OFFLINE_DIR is '{error.path}': {error.reason}")
    except (PluginError, InvalidInput) as error:
        fail(str(error))
    log_settings(app.settings, log.get_logger("edge_agent"), id=app.name.worker, database=str(settings.database))
    asyncio.run(app.run())


def _settings(config: Path | None) -> WorkerSettings:
    from broker.settings import load_or_exit  # noqa: PLC0415
    from edge_agent.settings import WorkerSettings  # noqa: PLC0415  --version and --help need none of it

    return load_or_exit(WorkerSettings, config)


def _enrol(options: argparse.Namespace) -> None:
    from edge_agent.enrol import Given, enrol_worker  # noqa: PLC0415

    given = Given(
        hub=options.hub,
        token=options.token,
        token_file=options.token_file,
        site=options.site,
        worker=options.worker,
        ca=options.ca,
        replaces=options.replace,
    )
    enrol_worker(_settings(options.config), given)


def _show_status(options: argparse.Namespace) -> None:
    from edge_agent.status_file import EXIT_STALE, show  # noqa: PLC0415

    named = os.environ.get(STATUS_FILE)
    file = Path(named) if named else _settings(options.config).status_file
    if file is None:
        sys.stderr.write(f"{STATUS_FILE} is not set: expected where the agent tells how it fares, on a tmpfs\n")
        sys.exit(EXIT_STALE)
    show(file, as_json=options.json)


def _examine(options: argparse.Namespace) -> None:
    from edge_agent.doctor import examine  # noqa: PLC0415

    examine(options.config, as_json=options.json)


def _show_buffer(options: argparse.Namespace) -> None:
    from edge_agent.buffer import show  # noqa: PLC0415

    show(_settings(options.config), as_json=options.json)


def _export_buffer(options: argparse.Namespace) -> None:
    from edge_agent.buffer import write_events  # noqa: PLC0415

    write_events(options.file or _settings(options.config).database)
