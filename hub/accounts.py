"""The broker's accounts as a hub that runs knows them: in memory, and renewed when somebody changes them (decision 15).

What the database holds is the truth. `hub.account_keeping` sees that the broker follows.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

from hub.keys import open_key
from hub.rules.access import Kind
from hub.rules.secrets import password_of
from hub.store.accounts import load_accounts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from hub.rules.access import Account
    from hub.watch import Watch

    OnChange = Callable[[Sequence[Account]], Awaitable[None]]

FAMILIES = ("account", "worker")
"""The actions that change accounts."""


class Accounts:
    """Knows every account, and its password.

    Args:
        engine: Where they are read.
        watch: Tells of changes, whoever made them.
        key_file: Where the key is that their passwords follow from.

    Attributes:
        on_change: Awaited after a change, with the accounts that were revoked by it.

    """

    def __init__(self, engine: Engine, watch: Watch, key_file: Path) -> None:
        self._engine = engine
        self._key_file = key_file
        self._key: bytes | None = None
        self._accounts: dict[str, Account] = {}
        self.on_change: OnChange = _nothing
        watch.listen(self._reload, *FAMILIES)

    def load(self, connection: Connection) -> None:
        """Take up what there is. Raises `SettingsError` where accounts have lost their key."""
        self._accounts = {one.name: one for one in load_accounts(connection)}
        if self._accounts:
            self.key()

    def all(self) -> list[Account]:
        """Return every account, revoked ones too, by name."""
        return [self._accounts[name] for name in sorted(self._accounts)]

    def lives(self, name: str) -> bool:
        """Tell whether there is an account of that name that may be used."""
        one = self._accounts.get(name)
        return one is not None and one.lives

    def is_current(self, account: Account) -> bool:
        """Tell whether an account is as it was: neither revoked, nor moved, nor given another password."""
        return self._accounts.get(account.name) == account

    def site_of(self, worker: str) -> str | None:
        """Return the site that a worker's account is of; None where it has none that may be used."""
        one = self._accounts.get(worker)
        return one.site if one is not None and one.lives and one.kind is Kind.WORKER else None

    def key(self) -> bytes:
        """Return the key that passwords follow from; the first to ask has it made. Raises `SettingsError`."""
        if self._key is None:
            self._key = open_key(self._key_file, may_make=not self._accounts)
        return self._key

    def verify(self, username: str, password: str) -> Account | None:
        """Return the account of that name if it lives and the password is its own.

        Takes the same time whether there is such an account, and however near the password is.
        """
        if not self._accounts:
            return None
        account = self._accounts.get(username)
        expected = password_of(self.key(), username, account.generation if account else 0)
        is_own = hmac.compare_digest(expected.encode(), password.encode())
        return account if is_own and account is not None and account.lives else None

    async def _reload(self) -> None:
        read = await asyncio.to_thread(self._read)
        before, self._accounts = self._accounts, {one.name: one for one in read}
        await self.on_change([one for one in read if not one.lives and one.name in before and before[one.name].lives])

    def _read(self) -> list[Account]:
        with self._engine.connect() as connection:
            return load_accounts(connection)


async def _nothing(_: Sequence[Account]) -> None:
    """Tell nobody of a change."""
