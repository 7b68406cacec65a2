"""`edge-hub tokens`: makes, lists and revokes tokens of the API, in the hub's database itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from broker.clock import wall_ms
from broker.errors import InvalidInput
from broker.problems import explain
from broker.settings import fail
from hub.errors import NotFound
from hub.rules.roles import Role  # noqa: TC001
from hub.rules.tokens import MAX_DAYS, TokenRequest, issued

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.rules.tokens import ApiToken

app = typer.Typer(no_args_is_help=True, help="Let people and programs use the API: works on the database itself.")

Config = Annotated[Path | None, typer.Option("--config", help="The hub's file of settings, as `serve` takes it.")]


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="Whose it is, or what for: the audit trail says this.")],
    role: Annotated[Role, typer.Option("--role", help="viewer reads, operator also does, admin also lets others in.")],
    expires_days: Annotated[
        float | None, typer.Option("--expires-days", help=f"How long it holds, up to {MAX_DAYS}; else until revoked.")
    ] = None,
    config: Config = None,
) -> None:
    """Make a token, and print it: it is shown this once, and kept nowhere."""
    from hub.commands.direct import directly  # noqa: PLC0415  it brings the database toolkit
    from hub.keys import new_token  # noqa: PLC0415
    from hub.rules.secrets import Prefix  # noqa: PLC0415
    from hub.store.tokens import add_token, any_token  # noqa: PLC0415

    asked = _asked(name, role, expires_days)
    token = new_token(Prefix.API)
    one = issued(asked, token, wall_ms())
    with directly(config, make=True) as direct:
        is_first = not any_token(direct.connection)
        try:
            add_token(direct.connection, one, direct.caller)
        except InvalidInput as error:
            fail(*(f"--{problem}" for problem in error.problems))
    typer.echo(str(token))
    typer.echo(f"{one.role} {one.name!r}, in {direct.settings.database_url}; revoke it as {one.id}", err=True)
    if is_first:
        typer.echo("It is the first: from now on the hub takes nothing without a token.", err=True)


@app.command("list")
def list_tokens(
    *, config: Config = None, as_json: Annotated[bool, typer.Option("--json", help="Print as the API does.")] = False
) -> None:
    """List every token that was ever made, newest first."""
    from hub.commands.direct import directly  # noqa: PLC0415
    from hub.store.tokens import load_tokens  # noqa: PLC0415

    with directly(config) as direct:
        tokens = load_tokens(direct.connection)[::-1]
    if as_json:
        from hub.api.tokens import token_shape  # noqa: PLC0415

        items = [token_shape(one, wall_ms()) for one in tokens]
        typer.echo(json.dumps({"items": items, "next": None}, indent=2, ensure_ascii=False))
    else:
        _print(tokens)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or its name.")], *, config: Config = None
) -> None:
    """Let a token hold no more: within a second, a hub that runs refuses it."""
    from hub.commands.direct import directly  # noqa: PLC0415
    from hub.store.tokens import revoke_token  # noqa: PLC0415

    with directly(config) as direct:
        try:
            one = revoke_token(direct.connection, token, wall_ms(), direct.caller)
        except NotFound as error:
            fail(f"TOKEN is {error.value!r}: expected the id of a token, or the name of one that holds")
    typer.echo(f"{one.name} ({one.id}) is revoked")


def _asked(name: str, role: Role, expires_days: float | None) -> TokenRequest:
    try:
        return TokenRequest(name=name, role=role, expires_in_days=expires_days)
    except ValidationError as error:
        options = {"name": "--name", "expires_in_days": "--expires-days"}
        fail(*(str(one).replace(one.field, options[one.field], 1) for one in explain(error)))


def _print(tokens: Iterable[ApiToken]) -> None:
    from hub.api.answers import rfc3339  # noqa: PLC0415
    from hub.commands.tables import print_table  # noqa: PLC0415

    now = wall_ms()
    columns = ("id", "name", "role", "state", "expires", "last used")
    print_table(
        columns,
        [
            (
                one.id,
                one.name,
                one.role.value,
                one.flaw(now) or "valid",
                rfc3339(one.expires_ms) or "never",
                rfc3339(one.last_used_ms) or "never",
            )
            for one in tokens
        ],
    )
