"""`edge-agent`: `run`, and what later releases bring."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from broker import __version__, log
from broker.errors import InvalidInput
from broker.settings import fail, load_or_exit, log_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.framework import Agent

logger = log.get_logger("edge_agent")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line. It is plain argparse, since an idle agent should be small."""
    parser = argparse.ArgumentParser(
        prog="edge-agent", description="Runs work at a site, whether or not the link holds."
    )
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the agent", description="Run the agent until SIGTERM or Ctrl-C.")
    run.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file of settings; the environment goes before it"
    )
    run.set_defaults(command=lambda options: run_agent(config=options.config))
    options = parser.parse_args(arguments)
    options.command(options)


def run_agent(*, config: Path | None = None, agents: Sequence[Agent] = ()) -> None:
    """Run an agent with the handlers of `agents` and of the plugins, until it is stopped.

    A wrong setting, an offline directory that cannot be written, or a plugin that cannot be used ends the program with
    one line and exit code 2.
    """
    from edge_agent.settings import WorkerSettings  # noqa: PLC0415  --version and --help need none of it

    settings = load_or_exit(WorkerSettings, config)
    log.configure(level=settings.log_level, style=settings.log_format)

    from edge_agent.app import App  # noqa: PLC0415
    from edge_agent.errors import PluginError, StorageError  # noqa: PLC0415

    try:
        app = App(settings, agents)
        app.open()
    except StorageError as error:
        fail(f"WORKER_OFFLINE_DIR is '{error.path}': {error.reason}")
    except (PluginError, InvalidInput) as error:
        fail(str(error))
    log_settings(settings, logger, id=app.name.worker, database=str(settings.database))
    asyncio.run(app.run())
