"""What `edge-hub workers` and `edge-hub accounts` share: both change the database itself, and a running hub follows."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from broker.clock import wall_ms
from broker.errors import InvalidInput
from broker.problems import Problem, shown
from broker.settings import fail
from broker.topics import NAME_PATTERN, is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection

    from hub.rules.callers import Caller
    from hub.settings import HubSettings

Config = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings; the environment goes first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the API answers.")]


class Grounds(NamedTuple):
    """What such a command works on: the database in one transaction, and as whom."""

    settings: HubSettings
    connection: Connection
    by: Caller
    now: int
    reserved: frozenset[str]


@contextmanager
def grounds(config: Path | None, *, make: bool = False) -> Iterator[Grounds]:
    """Open the database; commit where the block ends in order. What is refused ends the program with exit code 2."""
    from hub.commands.direct import directly  # noqa: PLC0415  `serve` needs none of this
    from hub.enrolling import reserved_names  # noqa: PLC0415
    from hub.errors import NotFound  # noqa: PLC0415
    from hub.rules.callers import Caller  # noqa: PLC0415

    try:
        with directly(config, make=make) as direct:
            caller = Caller(who=direct.who)
            yield Grounds(direct.settings, direct.connection, caller, wall_ms(), reserved_names(direct.settings))
    except InvalidInput as error:
        fail(*(str(problem) for problem in error.problems))
    except NotFound as error:
        fail(str(error))


def must_be_name(field: str, value: str | None) -> None:
    """Refuse what cannot be the name of a site, a worker or an account. Exits with 2."""
    if value is not None and not is_name(value):
        fail(str(Problem(field, shown(value), f"a text that matches {NAME_PATTERN}")))


def hint(*lines: str) -> None:
    """Say what is not the answer: on standard error, so that the answer can be piped."""
    for line in lines:
        typer.echo(line, err=True)


def say_whether_managed(settings: HubSettings) -> None:
    """Tell who makes accounts of a broker that is not told of them."""
    if not settings.manage_accounts:
        hint("HUB_MANAGE_ACCOUNTS is false: the hub counts this account, and the broker does not (docs/accounts.md)")


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; what is None is left empty."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  `serve` needs no tables
    from rich.table import Table  # noqa: PLC0415

    from hub.terminal import coloured, console, visible  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(coloured("" if cell is None else visible(str(cell))) for cell in row))
    console().print(table)


def print_json(items: Iterable[Mapping[str, Any]]) -> None:
    """Print a list as the API answers it."""
    typer.echo(json.dumps({"items": list(items), "next": None}, indent=2, ensure_ascii=False))
