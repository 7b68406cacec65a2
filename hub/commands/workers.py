"""`edge-hub workers`: lets workers in, lists them, throws them out. It works on the database itself."""

from __future__ import annotations

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
    from pathlib import Path

    from hub.commands.granting import Grounds
    from hub.rules.access import Account

VALID_MINUTES = 60.0
MAX_VALID_MINUTES = 30 * 24 * 60.0

app = typer.Typer(no_args_is_help=True, help="Let workers in, list them, throw them out: on the hub's own database.")

Worker = Annotated[str, typer.Argument(metavar="WORKER", help="Its id.")]
Minutes = Annotated[
    float, typer.Option("--valid-minutes", min=0.1, max=MAX_VALID_MINUTES, help="For how long the token is good.")
]


@app.command()
def enrol(
    *,
    site: Annotated[str, typer.Option(help="The site that the worker will be of.")],
    worker: Annotated[
        str | None, typer.Option(help="The only worker that may use the token; else any new one.")
    ] = None,
    valid_minutes: Minutes = VALID_MINUTES,
    config: Config = None,
) -> None:
    """Print a one-time token, which `edge-agent enrol` trades for the worker's own account."""
    must_be_name("--site", site)
    must_be_name("--worker", worker)
    with grounds(config, make=True) as here:
        known = _account(here, worker) if worker else None
        token = _make(here, site, worker, valid_minutes)
    if known and known.site != site:
        hint(f"{worker} has an account at {known.site}: with this token it moves to {site}")
    _print(token, f"{worker or 'a worker'} of {site}", valid_minutes)
    say_whether_managed(here.settings)


@app.command()
def rotate(worker: Worker, *, valid_minutes: Minutes = VALID_MINUTES, config: Config = None) -> None:
    """Print a token by which a worker gets a new password; the old one is good until then."""
    with grounds(config) as here:
        account = _account(here, worker)
        if account is None:
            fail(f"WORKER is {worker!r}: expected one that has an account (edge-hub workers list)")
        token = _make(here, account.site or "", worker, valid_minutes)
    _print(token, f"{worker} of {account.site}", valid_minutes, "--replace")


@app.command()
def revoke(
    worker: Annotated[str | None, typer.Argument(metavar="WORKER", help="Its id.")] = None,
    *,
    token: Annotated[str | None, typer.Option(help="Instead: the id of a token that is not to be used.")] = None,
    config: Config = None,
) -> None:
    """Throw a worker out: the broker and the hub take nothing from it any more."""
    from hub.store.granting import revoke_account, revoke_enrolment  # noqa: PLC0415

    if (worker is None) == (token is None):
        fail("expected a WORKER, or --token with the id of a token (edge-hub workers list --tokens)")
    with grounds(config) as here:
        if token is not None:
            one = revoke_enrolment(here.connection, token, here.by, now=here.now)
        elif _account(here, worker or "") is None:
            fail(f"WORKER is {worker!r}: expected one that has an account (edge-hub workers list)")
        else:
            revoke_account(here.connection, worker or "", here.by, now=here.now)
    if token is not None and one.used_by:
        hint(
            f"token {token} was used by {one.used_by} already: to throw that out, edge-hub workers revoke {one.used_by}"
        )
    typer.echo(f"{'token ' + token if token is not None else worker} is revoked")


@app.command("list")
def list_workers(
    *,
    tokens: Annotated[bool, typer.Option("--tokens", help="The one-time tokens instead.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """List the workers that have an account, or had one; or the tokens that were made."""
    if tokens:
        _list_tokens(config, as_json=as_json)
        return
    from hub.api.accounts import account_shape  # noqa: PLC0415
    from hub.rules.access import Kind  # noqa: PLC0415
    from hub.store.accounts import load_accounts, states_of_workers  # noqa: PLC0415

    with grounds(config) as here:
        found = [one for one in load_accounts(here.connection) if one.kind is Kind.WORKER]
        states = states_of_workers(here.connection)
    shapes = [{**account_shape(one), "state": states.get(one.name)} for one in found]
    if as_json:
        print_json(shapes)
        return
    rows = (
        (one["name"], one["site"], one["state"] or "never seen", one["changed_at"], one["generation"], _state(one))
        for one in shapes
    )
    print_table(("worker", "site", "state", "changed at", "password", "account"), rows)


def _list_tokens(config: Path | None, *, as_json: bool) -> None:
    from hub.api.enrolment import enrolment_shape  # noqa: PLC0415
    from hub.store.enrolments import list_enrolments  # noqa: PLC0415

    with grounds(config) as here:
        shapes = [enrolment_shape(one, here.now) for one in list_enrolments(here.connection)]
    if as_json:
        print_json(shapes)
        return
    rows = (
        (one["id"], one["site"], one["worker"] or "any", one["state"], one["expires_at"], one["used_by"])
        for one in shapes
    )
    print_table(("token", "site", "worker", "state", "good until", "used by"), rows)


def _make(here: Grounds, site: str, worker: str | None, minutes: float) -> str:
    from hub.enrolling import authority_of, new_enrolment  # noqa: PLC0415
    from hub.store.granting import add_enrolment  # noqa: PLC0415

    one, text = new_enrolment(authority_of(here.settings), site, worker, minutes)
    add_enrolment(here.connection, one, here.by, reserved=here.reserved)
    return text


def _account(here: Grounds, worker: str) -> Account | None:
    """Return the account of a worker, if it lives."""
    from hub.rules.access import Kind  # noqa: PLC0415
    from hub.store.accounts import find_account  # noqa: PLC0415

    one = find_account(here.connection, worker)
    return one if one and one.lives and one.kind is Kind.WORKER else None


def _print(token: str, whose: str, minutes: float, *options: str) -> None:
    typer.echo(token)
    command = " ".join(("edge-agent enrol --hub URL --token TOKEN", *options))
    hint(f"for {whose}, once, within {minutes:g} min; on its host: {command}")


def _state(shape: dict[str, object]) -> str:
    return "revoked" if shape["revoked_at"] else "good"
