"""Makes what a broker with accounts and TLS starts with. Run again, it makes only what is missing, and renews.

    DIRECTORY/                     the hub's part; what is in it belongs to whom the directory belongs to
        hub-password               of its account at the broker
        ca.crt, ca.key             the private certificate authority; workers get ca.crt when they enrol
        mosquitto/                 the broker's part, and all that it must be able to read
            dynamic-security.json  the plugin's accounts; it writes there itself
            server.crt, server.key
            ca.crt                 for who shows a certificate of its own

What was there is never written over, but for a server certificate of our own authority that ends soon, or that lacks a
host that was asked for.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from broker.topics import Topics
from hub.broker_certificates import BrokerCertificates
from hub.kept_files import PRIVATE, make_folder, not_writable, write_file
from hub.rules.first_access import HUB_USERNAME, SALT_BYTES, first_configuration

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

BROKER_USER = "mosquitto"
PASSWORD_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked for.

    Attributes:
        directory: Where all of it goes.
        hosts: Names and addresses by which the broker is reached; none means this machine's name.
        authority: Who signs, where that is not an authority of our own: its certificate's file and its key's.
        certificates: False where they come from elsewhere.
        username: The hub's account at the broker.
        client_id: The hub's client id, with which alone the account can be used.
        root: The first level of every topic.
        owner: The user, by name or number, whom a new `mosquitto/` is given to; unset: `mosquitto`, if there is one.

    """

    directory: Path
    hosts: tuple[str, ...] = ()
    authority: tuple[Path, Path] | None = None
    certificates: bool = True
    username: str = HUB_USERNAME
    client_id: str = HUB_USERNAME
    root: str = "edge"
    owner: str | None = None

    @property
    def broker(self) -> Path:
        """The broker's part."""
        return self.directory / "mosquitto"


def initialise(plan: Plan, now: dt.datetime) -> list[str]:
    """Make what is missing, and return a line for each thing that was made or renewed.

    Raises:
        InvalidInput: If something cannot be read, written or used; what was made until then stays.

    """
    make_folder(plan.directory, 0o755)
    if make_folder(plan.broker, 0o700):
        _give_to_broker(plan)
    said = _make_account(plan)
    if plan.certificates:
        said += BrokerCertificates(plan.directory, plan.broker, plan.authority, now).make(plan.hosts)
    return said


def _make_account(plan: Plan) -> list[str]:
    password, accounts = plan.directory / "hub-password", plan.broker / "dynamic-security.json"
    said = []
    if accounts.exists() and not password.exists():
        way_out = f"put it back; or stop the broker and delete {accounts}: the hub fills it again"
        raise InvalidInput([Problem(str(password), "missing", f"the password of {plan.username} ({way_out})")])
    if not password.exists():
        write_file(password, f"{secrets.token_urlsafe(PASSWORD_BYTES)}\n".encode(), PRIVATE)
        said.append(f"{password}: the password of {plan.username}")
    if not accounts.exists():
        write_file(accounts, _first(plan, _read(password)), PRIVATE)
        said.append(f"{accounts}: the account {plan.username}; the hub adds the others")
    return said


def _first(plan: Plan, password: str) -> bytes:
    salt = secrets.token_bytes(SALT_BYTES)
    first = first_configuration(plan.username, password, salt, Topics(plan.root), client_id=plan.client_id)
    return json.dumps(first, indent=2).encode() + b"\n"


def _read(password: Path) -> str:
    try:
        return password.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput([Problem("hub-password", shown(str(password)), f"a text file ({error})")]) from None


def _give_to_broker(plan: Plan) -> None:
    """Let the broker's part belong to its user: mosquitto reads and writes there after it has ceased to be root."""
    if os.geteuid() != 0:
        return
    try:
        owner = pwd.getpwnam(plan.owner or BROKER_USER)
        os.chown(plan.broker, owner.pw_uid, owner.pw_gid)
    except KeyError:
        _give_to_number(plan)
    except OSError as error:
        raise not_writable(plan.broker, error) from None


def _give_to_number(plan: Plan) -> None:
    if plan.owner is None:
        return  # no mosquitto on this machine: who brings it there gives it to whom it belongs
    if not plan.owner.isdecimal():
        raise InvalidInput([Problem("--owner", shown(plan.owner), "a user of this machine, or a user's number")])
    os.chown(plan.broker, int(plan.owner), int(plan.owner))
