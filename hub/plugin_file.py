"""Writes accounts into the file of the plugin, while the broker is stopped."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from broker.topics import Topics
from hub.kept_files import PRIVATE, write_file
from hub.keys import open_key
from hub.rules.first_access import SALT_BYTES
from hub.rules.plugin_file import filled
from hub.rules.reconcile import passwords_of, roster_of
from hub.store.accounts import load_accounts
from hub.store.files import key_file

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from hub.settings import HubSettings

INDENT = 2


def fill_file(path: Path, connection: Connection, settings: HubSettings) -> int:
    """Let the plugin's file have the accounts of the database; return how many changes that took.

    Raises:
        InvalidInput: If it is none that `edge-hub broker init` or the plugin has written, or cannot be written.

    """
    accounts = load_accounts(connection)
    key = open_key(key_file(settings), may_make=not accounts)
    wanted = roster_of(accounts, Topics(settings.root), key)
    file, changes = filled(_read(path), wanted, passwords_of(accounts, key), lambda: secrets.token_bytes(SALT_BYTES))
    if changes:
        write_file(path, json.dumps(file, indent=INDENT).encode() + b"\n", PRIVATE)
    return changes


def _read(path: Path) -> dict[str, Any]:
    expected = "the plugin's file, dynamic-security.json, as edge-hub broker init makes it"
    try:
        read = json.loads(path.read_bytes())
    except OSError as error:
        raise _wrong(path, f"{expected} ({error.strerror})") from None
    except ValueError:
        raise _wrong(path, expected) from None
    if not (isinstance(read, dict) and isinstance(read.get("clients"), list) and isinstance(read.get("roles"), list)):
        raise _wrong(path, expected)
    return read


def _wrong(path: Path, expected: str) -> InvalidInput:
    return InvalidInput([Problem("FILE", shown(str(path)), expected)])
