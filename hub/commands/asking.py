"""Which hub a command asks, and what it shows to it: the options that all such commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.problems import Problem, shown
from broker.settings import fail
from hub.rules.secrets import Prefix, read_token

if TYPE_CHECKING:
    from hub.commands.client import Client

HubUrl = Annotated[str, typer.Option("--hub", envvar="HUB_URL", help="Where the hub listens.")]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="HUB_TOKEN", help="What to show to it; better in a file that HUB_TOKEN_FILE names."),
]
Ca = Annotated[
    Path | None, typer.Option("--ca", envvar="HUB_CA", help="Who signed its certificate, where that is nobody public.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the API answers.")]
DEFAULT_HUB = "http://127.0.0.1:8000"

TOKEN_FILE = "HUB_TOKEN_FILE"  # noqa: S105  the name of a variable


def client_of(hub: str, token: str | None, ca: Path | None) -> Client:
    """Return a client of a hub; what is wrong with the options ends the program with exit code 2."""
    from hub.commands.client import Client  # noqa: PLC0415  `serve` needs no HTTP client

    return Client(hub, token=_token(token), ca=ca)


def _token(given: str | None) -> str | None:
    """Return what is shown, if anything; where it is no token, that is said without repeating it."""
    name, file = "HUB_TOKEN", os.environ.get(TOKEN_FILE)
    if given is None and file:
        name = f"what {TOKEN_FILE} names, '{file}',"
        try:
            given = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            fail(str(Problem(TOKEN_FILE, shown(file), f"a file that can be read ({error})")))
    if not given:
        return None
    text = given.strip()
    if read_token(text, Prefix.API) is None:
        fail(f"{name} is no token: expected hft_…, as `edge-hub tokens create` prints it")
    return text
