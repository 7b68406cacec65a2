"""Gives and takes back accounts and enrolments, each change with its line of the audit trail.

A hub that runs does it here, and so do the commands that work on the database itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from hub.errors import NotFound
from hub.rules.access import Account, Kind
from hub.rules.audit import Entry, by_worker
from hub.rules.enrolment import Grant, judge, name_problem
from hub.store.accounts import find_account, least_generation, save_account
from hub.store.audit import write
from hub.store.enrolments import find_enrolment, list_enrolments, save_enrolment

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from hub.rules.callers import Caller
    from hub.rules.enrolment import Ask, Enrolment, Refusal


def trade(
    connection: Connection, ask: Ask, *, reserved: Collection[str], now: int, address: str | None
) -> Grant | Refusal:
    """Trade a token for an account, or say why not; a refusal changes nothing and is for the caller to record."""
    enrolment = find_enrolment(connection, ask.token.id) if ask.token else None
    judged = judge(
        ask,
        enrolment,
        find_account(connection, ask.worker),
        reserved=reserved,
        now=now,
        least_generation=least_generation(connection),
    )
    if isinstance(judged, Grant) and judged.is_new:
        account, token = judged.account, judged.enrolment
        save_account(connection, account)
        save_enrolment(connection, token)
        detail = f"at {account.site}, by token {token.id}, password {account.generation}"
        write(
            connection, Entry(by_worker(account.name), "worker.enrolled", account.name, address=address, detail=detail)
        )
    return judged


def add_enrolment(connection: Connection, one: Enrolment, by: Caller, *, reserved: Collection[str]) -> None:
    """Keep a new token.

    Raises:
        InvalidInput: If it is for a worker that cannot have the name: it is the hub's, or another account's.

    """
    if one.worker is not None:
        _may_be_called("worker", one.worker, Kind.WORKER, find_account(connection, one.worker), reserved)
    save_enrolment(connection, one)
    whose = f"for {one.worker} at {one.site}" if one.worker else f"for a worker of {one.site}"
    write(
        connection,
        by.did("enrolment.created", one.id, f"{whose}, for {(one.expires_ms - one.created_ms) // 60_000} min"),
    )


def revoke_enrolment(connection: Connection, token_id: str, by: Caller, *, now: int) -> Enrolment:
    """Let a token be traded no more. Raises `NotFound`."""
    one = find_enrolment(connection, token_id)
    if one is None:
        raise NotFound("id", token_id)
    return one if one.revoked_ms is not None else _revoke_enrolment(connection, one, by, now)


def add_account(
    connection: Connection, name: str, kind: Kind, site: str | None, by: Caller, *, reserved: Collection[str], now: int
) -> Account:
    """Make an account that is no worker's, anew where one of its name was revoked.

    Raises:
        InvalidInput: If it cannot have the name: it is the hub's, or an account's that lives.

    """
    known = find_account(connection, name)
    _may_be_called("NAME", name, kind, known, reserved)
    if known is not None and known.lives:
        raise InvalidInput([Problem("NAME", shown(name), f"a name that no account has; this one is a {known.kind}'s")])
    one = _next(connection, Account(name, kind, site, 0, now, now), known, now)
    save_account(connection, one)
    write(connection, by.did("account.added", name, f"{kind}, {site or 'of all sites'}"))
    return one


def rotate_account(connection: Connection, name: str, by: Caller, *, now: int) -> Account:
    """Give an account that is no worker's another password. Raises `NotFound` where none of this name lives."""
    one = _living(connection, name)
    if one.kind is Kind.WORKER:
        raise InvalidInput([Problem("NAME", shown(name), f"no worker: edge-hub workers rotate {name}")])
    one = _next(connection, one, one, now)
    save_account(connection, one)
    write(connection, by.did("account.rotated", name, f"password {one.generation}"))
    return one


def revoke_account(connection: Connection, name: str, by: Caller, *, now: int) -> Account:
    """Let an account do nothing any more, and its open tokens neither. Raises `NotFound` where none lives so called."""
    one = _living(connection, name)._replace(revoked_ms=now, changed_ms=now)
    save_account(connection, one)
    family = "worker" if one.kind is Kind.WORKER else "account"
    write(connection, by.did(f"{family}.revoked", name, f"{one.kind}, {one.site or 'of all sites'}"))
    for token in list_enrolments(connection):
        if token.worker == name and token.state(now) == "open":
            _revoke_enrolment(connection, token, by, now)
    return one


def _living(connection: Connection, name: str) -> Account:
    one = find_account(connection, name)
    if one is None or not one.lives:
        raise NotFound("name", name)
    return one


def _next(connection: Connection, wanted: Account, known: Account | None, now: int) -> Account:
    """Return an account with a password that none of its name has had."""
    least = least_generation(connection)
    if known is None:
        return wanted._replace(generation=least)
    generation = max(least, known.generation + 1)
    return wanted._replace(generation=generation, created_ms=known.created_ms, changed_ms=now)


def _may_be_called(field: str, name: str, kind: Kind, known: Account | None, reserved: Collection[str]) -> None:
    problem = name_problem(name, reserved)
    if problem:
        raise InvalidInput([Problem(field, shown(name), f"another name: {problem}")])
    if known is not None and known.lives and known.kind is not kind:
        raise InvalidInput([Problem(field, shown(name), f"another name: this one is a {known.kind}'s")])


def _revoke_enrolment(connection: Connection, one: Enrolment, by: Caller, now: int) -> Enrolment:
    one = one._replace(revoked_ms=now)
    save_enrolment(connection, one)
    write(connection, by.did("enrolment.revoked", one.id, f"for {one.worker or 'a worker'} at {one.site}"))
    return one
