"""What the resources work with, and how they read the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from starlette.requests import Request

    from hub.access import Access
    from hub.account_keeping import AccountKeeper
    from hub.accounts import Accounts
    from hub.actions import Actions
    from hub.dispatch import Dispatcher
    from hub.enrolling import Enrolling
    from hub.feed import Waiters
    from hub.fleet import Fleet
    from hub.gateway import Gateway
    from hub.logs import Logs
    from hub.schedules import Schedules
    from hub.settings import HubSettings
    from hub.submission import Submissions
    from hub.tokens import Tokens
    from hub.wire import Wire

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The rooms of the hub that the API looks into."""

    settings: HubSettings
    engine: Engine
    fleet: Fleet
    dispatcher: Dispatcher
    submissions: Submissions
    actions: Actions
    waiters: Waiters
    wire: Wire
    gateway: Gateway
    logs: Logs
    schedules: Schedules
    access: Access
    tokens: Tokens
    accounts: Accounts
    keeper: AccountKeeper
    enrolling: Enrolling

    async def read(self, query: Callable[[Connection], Result]) -> Result:
        """Return what `query` finds, read in a thread so that the event loop goes on."""
        return await run_in_threadpool(self._read, query)

    def _read(self, query: Callable[[Connection], Result]) -> Result:
        with self.engine.connect() as connection:
            return query(connection)


def context_of(request: Request) -> Context:
    """Return the context of the application that serves `request`."""
    return cast("Context", request.app.state.context)
