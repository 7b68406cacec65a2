"""What `edge-agent` understands on its command line. It is plain argparse, since an idle agent should be small."""

from __future__ import annotations

import argparse
from pathlib import Path

from broker import __version__

Commands = argparse._SubParsersAction  # noqa: SLF001  argparse has no public name for it


def parser() -> argparse.ArgumentParser:
    """Return the parser; what it reads has the command's name as `command`."""
    top = argparse.ArgumentParser(prog="edge-agent", description="Runs work at a site, whether or not the link holds.")
    top.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    run = commands.add_parser("run", help="run the agent", description="Run the agent until SIGTERM or Ctrl-C.")
    _add_config(run)
    _add_enrol(commands)
    _add_status(commands)
    _add_doctor(commands)
    _add_buffer(commands)
    return top


def _add_config(command: argparse.ArgumentParser, default: str | None = None) -> None:
    text = "a TOML file of settings; the environment goes before it"
    command.add_argument("--config", type=Path, metavar="FILE", help=text, default=default)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="as JSON")


def _add_enrol(commands: Commands[argparse.ArgumentParser]) -> None:
    enrol = commands.add_parser(
        "enrol",
        help="trade a one-time token for an account of this worker's own",
        description="Trade a one-time token, which edge-hub workers enrol prints, for this worker's account at the"
        " broker. What is not given here is what the settings say. A running agent takes the new account by itself;"
        " a systemd service has a copy, which is made anew when it is started.",
    )
    _add_config(enrol)
    enrol.add_argument("--hub", metavar="URL", help="where the hub is: https://hub.example")
    token = enrol.add_mutually_exclusive_group()
    token.add_argument("--token", metavar="TOKEN", help="the one-time token: hfe_…")
    token.add_argument("--token-file", metavar="FILE", type=Path, help="a file that holds it; - is standard input")
    enrol.add_argument("--site", metavar="SITE", help="refuse a token for any other site")
    enrol.add_argument("--worker", metavar="WORKER", help="what the worker is to be called")
    enrol.add_argument("--ca", metavar="FILE", type=Path, help="the authority that vouches for the hub")
    enrol.add_argument("--replace", action="store_true", help="trade it though there are credentials already")


def _add_status(commands: Commands[argparse.ArgumentParser]) -> None:
    status = commands.add_parser(
        "status",
        help="say how the running agent fares; exit code 1 if none does",
        description="Say how the running agent fares, as it tells in WORKER_STATUS_FILE. The exit code is 0 while it"
        " lives, online or not, and 1 otherwise.",
    )
    _add_config(status)
    _add_json(status)


def _add_doctor(commands: Commands[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="find what is wrong, and say what to do about it",
        description="Look at the settings, the disk, the hub, the broker, the engine and the rest, and say what is"
        " wrong, each with its remedy. A running agent is not disturbed. The exit code is 1 if anything is bad.",
    )
    _add_config(doctor)
    _add_json(doctor)


def _add_buffer(commands: Commands[argparse.ArgumentParser]) -> None:
    buffer = commands.add_parser(
        "buffer",
        help="show what waits for the hub",
        description="Show what waits in the journal, whether or not the agent runs. The settings say where it is.",
    )
    _add_config(buffer)
    _add_json(buffer)
    actions = buffer.add_subparsers(title="actions", metavar="ACTION", dest="action")
    export = actions.add_parser(
        "export",
        help="write every event as a line of JSON",
        description="Write every event of a journal as a line of JSON, of a damaged one as many as can be read.",
    )
    _add_config(export, argparse.SUPPRESS)  # what was given before `export` stays
    export.add_argument("--file", type=Path, metavar="PATH", help="a journal, such as one that was set aside")
