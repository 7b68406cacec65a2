"""Everything that can be shown to a hub's API: tokens and accounts that hold, and such that do not."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from broker.clock import wall_ms
from hub.keys import new_token, open_key
from hub.rules.access import Account, Kind
from hub.rules.callers import Caller
from hub.rules.roles import Role
from hub.rules.secrets import Prefix, password_of
from hub.rules.tokens import ApiToken
from hub.store.accounts import save_account
from hub.store.engine import open_engine
from hub.store.files import key_file
from hub.store.tokens import add_token, revoke_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from hub.settings import HubSettings

TESTER = Caller("local:test")


class Shown(NamedTuple):
    """What a request can show: by its name, and as httpx takes it."""

    name: str
    headers: dict[str, str]
    auth: tuple[str, str] | None = None


class Keys:
    """Every sort of credentials, for a hub that has a database but does not run yet."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._key = open_key(key_file(settings), may_make=True)
        self.shown: dict[str, Shown] = {"nothing": Shown("nothing", {}), "nonsense": bearer("nonsense", "hft_x")}
        with writing(settings) as connection:
            for role in Role:
                self._add(connection, role.value, role)
            self._add(connection, "expired", Role.ADMIN, expires_ms=wall_ms() - 1000)
            self._add(connection, "revoked", Role.ADMIN)
            revoke_token(connection, "revoked", wall_ms(), TESTER)
            self._add_account(connection, "worker", Account("w1", Kind.WORKER, "site-a", 1, 0, 0))
            self._add_account(connection, "reader", Account("r1", Kind.READER, None, 1, 0, 0))
            self._add_account(connection, "revoked worker", Account("w2", Kind.WORKER, "site-a", 1, 0, 0, 5))
        self.shown["unknown"] = bearer("unknown", str(new_token(Prefix.API)))
        self.shown["forged"] = bearer("forged", self._forged())
        self.shown["wrong password"] = Shown("wrong password", {}, ("w1", password_of(self._key, "w1", 2)))

    def _add(self, connection: Connection, name: str, role: Role, expires_ms: int | None = None) -> None:
        token = new_token(Prefix.API)
        add_token(connection, ApiToken(token.id, name, role, token.hash, wall_ms() - 5000, expires_ms), TESTER)
        self.shown[name] = bearer(name, str(token))

    def _add_account(self, connection: Connection, name: str, account: Account) -> None:
        save_account(connection, account)
        self.shown[name] = Shown(name, {}, (account.name, password_of(self._key, account.name, account.generation)))

    def _forged(self) -> str:
        """Return the admin's token with another secret."""
        text = self.shown["admin"].headers["Authorization"].removeprefix("Bearer ")
        return text[:-1] + ("a" if text[-1] != "a" else "b")


def administrator(settings: HubSettings) -> dict[str, str]:
    """Return the headers of one more administrator."""
    token = new_token(Prefix.API)
    with writing(settings) as connection:
        add_token(connection, ApiToken(token.id, f"root-{token.id}", Role.ADMIN, token.hash, wall_ms()), TESTER)
    return bearer("admin", str(token)).headers


def bearer(name: str, text: str) -> Shown:
    return Shown(name, {"Authorization": f"Bearer {text}"})


@contextlib.contextmanager
def writing(settings: HubSettings) -> Iterator[Connection]:
    engine = open_engine(settings.database_url)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection
    engine.dispose()
