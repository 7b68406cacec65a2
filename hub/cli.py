"""`edge-hub`: the hub's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker import __version__
from broker.errors import SettingsError
from broker.log import configure
from broker.settings import fail, load_or_exit
from hub.commands import accounts, audit, backup, broker, certificates, doctor, schedules, tasks, tokens, workers
from hub.settings import HubSettings

app = typer.Typer(name="edge-hub", no_args_is_help=True, add_completion=False, help="The hub of Holdfast.")
app.add_typer(tasks.app, name="tasks")
app.add_typer(schedules.app, name="schedules")
app.add_typer(workers.app, name="workers")
app.add_typer(accounts.app, name="accounts")
app.add_typer(tokens.app, name="tokens")
app.command()(audit.audit)
app.add_typer(broker.app, name="broker")
app.add_typer(certificates.app, name="certificates")

app.command()(backup.backup)
app.command()(backup.restore)
app.command()(doctor.doctor)

Config = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings; the environment goes first.")]


@app.callback(invoke_without_command=True)
def root(*, version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False) -> None:
    """Send tasks to workers at many sites, and keep what they report."""
    if version:
        typer.echo(f"edge-hub {__version__}")
        raise typer.Exit


@app.command()
def serve(config: Config = None) -> None:
    """Run the hub: HTTP API, dispatch, and the link to the broker."""
    settings = load_or_exit(HubSettings, config)
    configure(level=settings.log_level, style=settings.log_format)
    from hub.app import serve as run  # noqa: PLC0415  a wrong setting should be told before anything heavy is loaded

    try:
        run(settings)
    except SettingsError as error:
        fail(*(str(problem) for problem in error.problems))


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="End when every task has, with a summary.")] = False,
    picture: Annotated[Path | None, typer.Option(help="With --once: write the screen to this SVG file.")] = None,
) -> None:
    """Show three sites at work: a private broker, a hub and three workers, on this machine."""
    from hub.demo.run import run  # noqa: PLC0415  the demo brings an HTTP client that `serve` has no use for

    raise typer.Exit(run(once=once, picture=picture))


def main() -> None:
    """Run the command line."""
    app()
