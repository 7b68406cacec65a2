"""The tokens of the API as a hub that runs knows them: in memory, and renewed when somebody changes them."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from broker.clock import wall_ms
from broker.log import get_logger
from hub.errors import LedgerClosed
from hub.keys import new_token
from hub.rules.secrets import Prefix, hash_of, read_token
from hub.rules.tokens import ApiToken, issued
from hub.store.tokens import add_token, load_tokens, revoke_token, touch_tokens

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from hub.rules.callers import Caller
    from hub.rules.tokens import TokenRequest
    from hub.store.ledger import Ledger
    from hub.watch import Watch

FAMILY = "token"
"""The actions that change tokens."""

TOUCH_SECONDS = 60.0
"""How often it is written down when tokens were last shown: no request costs a write of its own for that."""

LAST_SECONDS = 2.0
"""How long a hub that stops waits for that."""

_NOBODYS = hash_of("nobody's")

log = get_logger(__name__)


class Tokens:
    """Knows, makes and revokes tokens.

    Args:
        engine: Where they are read.
        ledger: Commits what changes.
        watch: Tells what other processes change.

    """

    def __init__(self, engine: Engine, ledger: Ledger, watch: Watch) -> None:
        self._engine = engine
        self._ledger = ledger
        self._watch = watch
        self._tokens: dict[str, ApiToken] = {}
        self._used: dict[str, int] = {}
        watch.listen(self._reload, FAMILY)

    @property
    def were_made(self) -> bool:
        """Whether a token was ever made: then the API takes nothing but tokens, also when all are revoked."""
        return bool(self._tokens)

    def load(self, connection: Connection) -> None:
        """Take up what there is."""
        self._tokens = {one.id: one for one in load_tokens(connection)}

    def all(self) -> list[ApiToken]:
        """Return every token that was ever made, oldest first, each with when it was last shown."""
        return [
            one._replace(last_used_ms=self._used.get(one.id, one.last_used_ms))
            for one in sorted(self._tokens.values(), key=lambda one: (one.created_ms, one.id))
        ]

    def verify(self, text: str) -> tuple[ApiToken | None, str | None]:
        """Return the token that a text is, if it is one of ours, and what is wrong with it: `expired`, `revoked`.

        Takes the same time for an id that there is and one that there is not, and for whatever secret.
        """
        shown = read_token(text, Prefix.API)
        if shown is None:
            return None, "not a token of the API: those begin with hft_"
        one = self._tokens.get(shown.id)
        if not shown.is_of(one.hash if one else _NOBODYS) or one is None:
            return None, "not known to this hub"
        now = wall_ms()
        flaw = one.flaw(now)
        if flaw is None:
            self._used[one.id] = now
        return one, flaw

    async def make(self, asked: TokenRequest, by: Caller) -> tuple[ApiToken, str]:
        """Make a token; return it and its text, which is nowhere else, after the commit.

        Raises:
            InvalidInput: If a token of that name holds.

        """
        token = new_token(Prefix.API)
        one = issued(asked, token, wall_ms())
        await self._ledger.commit(partial(add_token, new=one, by=by))
        log.info("token_created", token=one.name, id=one.id, role=one.role.value, by=by.who)
        await self._watch.look()
        return one, str(token)

    async def revoke(self, wanted: str, by: Caller) -> ApiToken:
        """Let a token hold no more, by its id or name; from when this returns it does not. Raises `NotFound`."""
        one = await self._ledger.commit(partial(revoke_token, wanted=wanted, now_ms=wall_ms(), by=by))
        log.info("token_revoked", token=one.name, id=one.id, by=by.who)
        await self._watch.look()
        return one

    async def run(self) -> None:
        """Write down from time to time when tokens were last shown, and at the end."""
        try:
            while True:
                await asyncio.sleep(TOUCH_SECONDS)
                await self._touch()
        finally:
            with contextlib.suppress(TimeoutError):  # what the disk does not take by then, nobody will miss
                async with asyncio.timeout(LAST_SECONDS):
                    await self._touch()

    async def _touch(self) -> None:
        used = {token: at for token, at in self._used.items() if at != self._tokens[token].last_used_ms}
        if not used:
            return
        try:
            await self._ledger.commit(partial(touch_tokens, used=used))
        except (LedgerClosed, SQLAlchemyError) as error:  # a full disk, say: it is kept the next time
            log.warning("token_use_not_kept", tokens=len(used), error=str(error))
            return
        for token, at in used.items():
            self._tokens[token] = self._tokens[token]._replace(last_used_ms=at)

    async def _reload(self) -> None:
        tokens = await asyncio.to_thread(self._read)
        self._tokens = {one.id: one for one in tokens}
        now = wall_ms()
        log.info("tokens_changed", valid=sum(one.flaw(now) is None for one in tokens), made=len(tokens))

    def _read(self) -> list[ApiToken]:
        with self._engine.connect() as connection:
            return load_tokens(connection)
