"""What tests of brokers with accounts and TLS share: a directory of `edge-hub broker init`, and who connects how."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from broker.account import Account as Login
from broker.link import Link
from hub.broker_init import Plan, initialise
from hub.rules.access import Account, Kind
from tests.support.brokers import give_account
from tests.support.programs import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

SITE = "site-a"
SECRET = "correct-horse-battery"  # noqa: S105  of a broker that lives as long as a test


def account(name: str, kind: Kind, site: str | None = SITE) -> Account:
    """Return an account as the hub keeps it."""
    return Account(name, kind, site, generation=1, created_ms=0, changed_ms=0)


async def edge_hub(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run `edge-hub`; return its exit code, and what it said, standard output first."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hub", *arguments),
        env=clean_environment(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await process.communicate()
    return process.returncode or 0, (said + complaints).decode()


def made(place: Path, *accounts: Account, authority: tuple[Path, Path] | None = None) -> Path:
    """Return a directory as `edge-hub broker init` makes it, where `accounts` have the password SECRET."""
    initialise(Plan(directory=place, authority=authority, owner=str(os.geteuid())), datetime.now(UTC))
    for one in accounts:
        give_account(place, one, SECRET)
    (place / "password").write_text(SECRET)
    return place


def of_hub(place: Path, **more: str) -> dict[str, str]:
    """Return a hub's settings for the broker of `place`."""
    access = {"USERNAME": "holdfast-hub", "PASSWORD_FILE": str(place / "hub-password"), "TLS_CA": str(place / "ca.crt")}
    return {f"HUB_{name}": value for name, value in {**access, **more}.items()}


def of_worker(name: str, place: Path, **more: str) -> dict[str, str]:
    """Return a worker's settings for the broker of `place`."""
    access = {"USERNAME": name, "PASSWORD_FILE": str(place / "password"), "TLS_CA": str(place / "ca.crt")}
    return {f"WORKER_{key}": value for key, value in {**access, **more}.items()}


def link(place: Path, url: str, username: str, *, client_id: str, certificate: Path | None = None) -> Link:
    """Return how a client reaches the broker of `place`; `certificate` is where its own is, without the ending."""
    login = Login(
        username=username,
        password=SECRET,
        tls_ca=str(place / "ca.crt"),
        tls_certificate=f"{certificate}.crt" if certificate else None,
        tls_key=f"{certificate}.key" if certificate else None,
    )
    return Link(url=url, client_id=client_id, account=login)
