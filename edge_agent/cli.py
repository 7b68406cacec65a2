"""`edge-agent`: `run` an agent, or look into its `buffer`."""

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
    _add_config(run)
    run.set_defaults(command=lambda options: run_agent(config=options.config))
    _add_buffer(commands)
    options = parser.parse_args(arguments)
    options.command(options)


def _add_config(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    text = "a TOML file of settings; the environment goes before it"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text, default=default)


def _add_buffer(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    buffer = commands.add_parser(
        "buffer",
        help="show what waits for the hub",
        description="Show what waits in the journal, whether or not the agent runs. The settings say where it is.",
    )
    _add_config(buffer)
    buffer.add_argument("--json", action="store_true", help="as JSON")
    buffer.set_defaults(command=lambda options: show_buffer(config=options.config, as_json=options.json))
    actions = buffer.add_subparsers(title="actions", metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="write every event as a line of JSON",
        description="Write every event of a journal as a line of JSON, of a damaged one as many as can be read.",
    )
    _add_config(export, argparse.SUPPRESS)  # what was given before `export` stays
    export.add_argument("--file", type=Path, metavar="PATH", help="a journal, such as one that was set aside")
    export.set_defaults(command=lambda options: export_buffer(config=options.config, file=options.file))


def show_buffer(*, config: Path | None, as_json: bool) -> None:
    """Print what waits in the journal of the agent that the settings describe."""
    from edge_agent.buffer import show  # noqa: PLC0415  `run` needs none of it
    from edge_agent.settings import WorkerSettings  # noqa: PLC0415

    show(load_or_exit(WorkerSettings, config), as_json=as_json)


def export_buffer(*, config: Path | None, file: Path | None) -> None:
    """Print the events of `file`, or of the journal of the agent that the settings describe."""
    from edge_agent.buffer import write_events  # noqa: PLC0415
    from edge_agent.settings import WorkerSettings  # noqa: PLC0415

    write_events(file or load_or_exit(WorkerSettings, config).database)


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
