"""Notices what other processes have changed in the database.

Commands such as `edge-hub tokens revoke` write it directly. Each change there is a line of the audit trail, which only
grows: its newest number tells that there was one.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from broker.log import get_logger
from hub.store.audit import actions_since, newest
from hub.store.changes import Changes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection, Engine

LOOK_SECONDS = 0.5
"""How often the trail is looked at: what was changed is known within a second."""

log = get_logger(__name__)


class _Listener(NamedTuple):
    families: frozenset[str]
    on_change: Callable[[], Awaitable[None]]


class Watch:
    """Calls who listens for some family of actions, `token` or `account`, when the trail has new ones of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listeners: list[_Listener] = []
        self._seen = 0
        self._looking = asyncio.Lock()

    def listen(self, on_change: Callable[[], Awaitable[None]], *families: str) -> None:
        """Await `on_change` after each change by an action `<family>.…`, whoever made it."""
        self._listeners.append(_Listener(frozenset(families), on_change))

    def load(self, connection: Connection) -> None:
        """Begin with what the trail has now: whoever listens reads its own tables in the same transaction."""
        self._seen = newest(connection)

    async def run(self) -> None:
        """Look again and again: into the trail only where anything was written since."""
        with contextlib.closing(Changes(self._engine)) as changes:
            known = None
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                version = changes.version()
                if version is not None and version == known:
                    continue
                try:
                    await self.look()
                    known = version  # of before the look: what came meanwhile is looked at next
                except SQLAlchemyError as error:
                    log.warning("changes_not_read", error=str(error))

    async def look(self) -> None:
        """Look now, and return when everybody who listens has taken in what there is: after a change of one's own."""
        async with self._looking:
            seen, actions = await asyncio.to_thread(self._read, partial(actions_since, seq=self._seen))
            families = {action.partition(".")[0] for action in actions}
            for listener in self._listeners:
                if listener.families & families:
                    await listener.on_change()
            self._seen = seen  # only now: what failed is tried again

    def _read(self, query: Callable[[Connection], tuple[int, set[str]]]) -> tuple[int, set[str]]:
        with self._engine.connect() as connection:
            return query(connection)
