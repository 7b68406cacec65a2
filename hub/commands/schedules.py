"""`edge-hub schedules`: lists, shows, puts and deletes what workers fire by themselves, by way of a hub that runs."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from broker.problems import Problem, shown
from broker.settings import fail
from hub.commands.asking import DEFAULT_HUB, AsJson, Ca, HubUrl, Token, client_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.table import Table

    Shape = Mapping[str, Any]

app = typer.Typer(no_args_is_help=True, help="See and set what workers fire by themselves: asks a hub that runs.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the schedule is known by.")]


@app.command("list")
def list_schedules(*, hub: HubUrl = DEFAULT_HUB, token: Token = None, ca: Ca = None, as_json: AsJson = False) -> None:
    """List schedules, each with how many of its workers have it."""
    page = client_of(hub, token, ca).get("/api/schedules")
    if as_json:
        _print_json(page)
    else:
        _print(_schedules(page["items"]))


@app.command()
def show(name: Name, *, hub: HubUrl = DEFAULT_HUB, token: Token = None, ca: Ca = None, as_json: AsJson = False) -> None:
    """Show one schedule, and which of its workers have it."""
    shape = client_of(hub, token, ca).get(_path(name))
    if as_json:
        _print_json(shape)
    else:
        _print(_schedules([shape]))
        _print(_workers(shape["workers"]))


@app.command()
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Tables [[job]], as in a worker's schedule file.")],
    *,
    site: Annotated[str | None, typer.Option(help="For the workers of a site; else for all there are.")] = None,
    worker: Annotated[str | None, typer.Option(help="For one worker.")] = None,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Have each job of a file fired by the workers, new or in the place of the one of its name."""
    client = client_of(hub, token, ca)
    where = {name: value for name, value in (("site", site), ("worker", worker)) if value is not None}
    for job in read_jobs(file):
        shape = client.put(_path(job["name"]), {**job, **where})
        if as_json:
            _print_json(shape)
        else:
            typer.echo(f"{shape['name']}: {shape['taken_by']} of {shape['concerns']} workers have it by now")


@app.command()
def delete(name: Name, *, hub: HubUrl = DEFAULT_HUB, token: Token = None, ca: Ca = None) -> None:
    """Have a schedule fired no more; a worker that is away hears of it when it is back."""
    client_of(hub, token, ca).delete(_path(name))
    typer.echo(f"{name} is deleted")


def read_jobs(file: Path) -> list[dict[str, Any]]:
    """Return the jobs of a file as JSON has them; what is in them, the hub judges. Exits with 2 where there is none."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8")).get("job", [])
    except (OSError, UnicodeDecodeError) as error:
        fail(str(Problem("FILE", f"'{file}'", f"a file that can be read ({error})")))
    except tomllib.TOMLDecodeError as error:
        fail(str(Problem("FILE", f"'{file}'", f"valid TOML ({error})")))
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        fail(str(Problem(f"{file}: job", shown(tables), "tables [[job]], in two brackets")))
    for number, table in enumerate(tables, 1):
        if not isinstance(table.get("name"), str):
            fail(str(Problem(f"{file}: job number {number}: name", shown(table.get("name")), "a text")))
    read: list[dict[str, Any]] = json.loads(json.dumps(tables, default=_as_text))
    return read


def _schedules(schedules: Iterable[Shape]) -> Table:
    table = _table("name", "when", "kind", "where", "taken by", "on")
    for one in schedules:
        when = f"{one['cron']} {one['timezone']}" if one["cron"] else f"each {one['every_seconds']:g} s"
        where = one["worker"] or one["site"] or "everywhere"
        taken = f"{one['taken_by']} of {one['concerns']}"
        table.add_row(one["name"], when, one["task"]["kind"], where, taken, "yes" if one["enabled"] else "no")
    return table


def _workers(workers: Iterable[Shape]) -> Table:
    table = _table("worker", "site", "state", "taken", "rests, since")
    for one in workers:
        table.add_row(one["id"], one["site"], one["state"], "yes" if one["taken"] else "not yet", one["rests"] or "")
    return table


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  `serve` needs no tables
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _path(name: str) -> str:
    return f"/api/schedules/{quote(name, safe='')}"


def _print(table: Table) -> None:
    from hub.terminal import console  # noqa: PLC0415

    console().print(table)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, dt.datetime | dt.date | dt.time) else str(value)
