"""`edge-hub accounts`: the broker's accounts of what is no worker. It works on the database itself."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from broker.settings import fail
from hub.commands.granting import (
    AsJson,
    Config,
    grounds,
    hint,
    must_be_name,
    print_json,
    print_table,
    say_whether_managed,
)

if TYPE_CHECKING:
    from hub.commands.granting import Grounds
    from hub.rules.access import Account, Kind

app = typer.Typer(no_args_is_help=True, help="Accounts of the broker for what is no worker: on the hub's own database.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user name, and the client id.")]


@app.command()
def add(
    name: Name,
    *,
    site: Annotated[str | None, typer.Option(help="The site that it is for; a reader may be for all.")] = None,
    read: Annotated[bool, typer.Option("--read", help="It hears the state of workers, and publishes nothing.")] = False,
    bridge: Annotated[bool, typer.Option("--bridge", help="It is the site's own broker.")] = False,
    config: Config = None,
) -> None:
    """Make an account, and print its password: unless said otherwise, one that sends tasks to a site."""
    from hub.store.granting import add_account  # noqa: PLC0415

    must_be_name("NAME", name)
    must_be_name("--site", site)
    kind = _kind(read=read, bridge=bridge, site=site)
    with grounds(config, make=True) as here:
        account = add_account(here.connection, name, kind, site, here.by, reserved=here.reserved, now=here.now)
        password = _password(here, account)
    _print(account, password)
    say_whether_managed(here.settings)


@app.command()
def rotate(name: Name, *, config: Config = None) -> None:
    """Give an account another password, and print it; the old one is good no more."""
    from hub.store.granting import rotate_account  # noqa: PLC0415

    with grounds(config) as here:
        account = rotate_account(here.connection, name, here.by, now=here.now)
        password = _password(here, account)
    _print(account, password)


@app.command()
def revoke(name: Name, *, config: Config = None) -> None:
    """Let an account do nothing any more: the broker throws off who uses it."""
    from hub.store.granting import revoke_account  # noqa: PLC0415

    with grounds(config) as here:
        revoke_account(here.connection, name, here.by, now=here.now)
    typer.echo(f"{name} is revoked")


@app.command()
def fill(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The plugin's file: dynamic-security.json.")],
    *,
    config: Config = None,
) -> None:
    """Write every account into the file of a broker that is stopped: sooner done than telling a running one of all."""
    from hub.plugin_file import fill_file  # noqa: PLC0415

    with grounds(config) as here:
        changes = fill_file(file, here.connection, here.settings)
    typer.echo(f"{file}: {changes} changes" if changes else f"{file}: nothing is missing")


@app.command("list")
def list_accounts(*, as_json: AsJson = False, config: Config = None) -> None:
    """List every account of the broker, workers' too."""
    from hub.api.accounts import account_shape  # noqa: PLC0415
    from hub.store.accounts import load_accounts  # noqa: PLC0415

    with grounds(config) as here:
        shapes = [account_shape(one) for one in load_accounts(here.connection)]
    if as_json:
        print_json(shapes)
        return
    rows = (
        (
            one["name"],
            one["kind"],
            one["site"] or "all",
            one["changed_at"],
            "revoked" if one["revoked_at"] else "good",
        )
        for one in shapes
    )
    print_table(("name", "kind", "site", "changed at", "account"), rows)


def _kind(*, read: bool, bridge: bool, site: str | None) -> Kind:
    from hub.rules.access import Kind  # noqa: PLC0415

    if read and bridge:
        fail("--read and --bridge are two kinds of account: expected one of them")
    kind = Kind.READER if read else Kind.BRIDGE if bridge else Kind.PUBLISHER
    if site is None and kind is not Kind.READER:
        fail(f"--site is missing: expected the site that the {kind} is for")
    return kind


def _password(here: Grounds, account: Account) -> str:
    """Return the password of an account; the first of all makes the hub's key."""
    from hub.keys import open_key  # noqa: PLC0415
    from hub.rules.secrets import password_of  # noqa: PLC0415
    from hub.store.accounts import load_accounts  # noqa: PLC0415
    from hub.store.files import key_file  # noqa: PLC0415

    is_first = load_accounts(here.connection) == [account] and account.generation == 1
    key = open_key(key_file(here.settings), may_make=is_first)
    return password_of(key, account.name, account.generation)


def _print(account: Account, password: str) -> None:
    typer.echo(password)
    where = f"of {account.site}" if account.site else "of all sites"
    hint(
        f"for the {account.kind} {account.name} {where}: its user name is {account.name}, and so must its client id be"
    )
