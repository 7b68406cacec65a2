"""`edge-hub doctor`: looks at everything that the hub depends on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings; the environment goes first.")]


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is found as JSON.")] = False,
    config: Config = None,
) -> None:
    """Find what is wrong with a hub, its database, its broker and its workers, and say what to do about it.

    For the hub's machine, with the hub's settings, whether or not it runs. Ends with 1 if something is bad.
    """
    from hub.doctor.examination import examine_hub  # noqa: PLC0415  `serve` needs no doctor

    raise typer.Exit(asyncio.run(examine_hub(config, as_json=as_json)))
