"""`edge-hub broker`: makes what a broker with accounts and TLS starts with. It asks no hub."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from broker.errors import InvalidInput, TopicError
from broker.problems import Problem, shown
from broker.settings import fail
from hub.rules.first_access import HUB_USERNAME

app = typer.Typer(no_args_is_help=True, help="Prepare a broker with accounts and TLS.")

Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where it is written; made if it is not there.")]


@app.callback()
def root() -> None:
    """Prepare a broker with accounts and TLS."""


@app.command()
def init(
    directory: Directory,
    *,
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name or an address of the broker; may be repeated.")
    ] = None,
    ca: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CERT KEY", help="Sign with this authority, and not with one of our own."),
    ] = None,
    certificates: Annotated[
        bool, typer.Option(help="With --no-certificates the broker's certificate comes from elsewhere.")
    ] = True,
    username: Annotated[str, typer.Option(envvar="HUB_USERNAME", help="The hub's account.")] = HUB_USERNAME,
    client_id: Annotated[
        str, typer.Option(envvar="HUB_CLIENT_ID", help="The hub's client id, with which alone the account can be used.")
    ] = HUB_USERNAME,
    topic_root: Annotated[str, typer.Option("--root", envvar="HUB_ROOT", help="The first level of topics.")] = "edge",
    owner: Annotated[
        str | None, typer.Option(help="The user who runs mosquitto, by name or number; unset: mosquitto.")
    ] = None,
) -> None:
    """Make the hub's account and password, a private CA and the broker's certificate: what of it is not there yet.

    Run it again at any time: what is there stays, and a server certificate that ends within 30 days is renewed.
    """
    from hub.broker_init import Plan, initialise  # noqa: PLC0415  `serve` makes no certificates

    plan = Plan(
        directory=directory,
        hosts=tuple(host or ()),
        authority=ca,
        certificates=certificates,
        username=username,
        client_id=client_id,
        root=topic_root,
        owner=owner,
    )
    try:
        said = initialise(plan, dt.datetime.now(dt.UTC))
    except InvalidInput as error:
        fail(*(str(problem) for problem in error.problems))
    except OSError as error:
        expected = f"a place that can be read and written ({error.strerror})"
        fail(str(Problem("DIRECTORY", shown(str(error.filename or directory)), expected)))
    except TopicError as error:
        fail(str(error.problem))
    typer.echo("\n".join(said) if said else f"{directory}: nothing is missing")
