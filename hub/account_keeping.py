"""Keeps the broker's accounts in step with ours: with each link, and after each change, it is told the difference.

What it does not take is said in the log, and tried again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.errors import LinkDown, SettingsError
from broker.log import get_logger
from hub.errors import BrokerSilent
from hub.rules.access import Kind
from hub.rules.reconcile import bereft, clashes, commands_for, passwords_of, roster_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from broker.topics import Topics
    from hub.accounts import Accounts
    from hub.dynsec import DynamicSecurity
    from hub.rules.access import Account
    from hub.rules.reconcile import Command, Roster
    from hub.sweeping import Sweeping

RETRY_SECONDS = 30.0
"""After how long a broker is told again what it did not take."""

SETTLE_SECONDS = 5.0
"""How long who has changed an account waits for the broker to know it."""

log = get_logger(__name__)


class AccountKeeper:
    """Has the broker know whom it may let in, and what they may do there.

    Args:
        accounts: Knows them all.
        topics: What they may do is about these.
        security: How the broker is told; None where its accounts are not ours to keep.
        sweeping: Ends the sessions of who has lost a right.

    Attributes:
        on_revoked: Awaited for each worker whose account was revoked, when the broker has thrown it off.

    """

    def __init__(
        self, accounts: Accounts, topics: Topics, security: DynamicSecurity | None, sweeping: Sweeping | None = None
    ) -> None:
        self._accounts = accounts
        self._topics = topics
        self._security = security
        self._sweeping = sweeping
        self._leaving: dict[str, Account] = {}
        self._sessions: dict[str, None] = {}
        self._held: Roster | None = None
        self._in_step = False
        self._to_do = asyncio.Event()
        self._done = asyncio.Event()
        self.on_revoked: Callable[[Account], Awaitable[None]] = _nothing
        accounts.on_change = self._on_change

    @property
    def is_in_step(self) -> bool | None:
        """Whether the broker has all that it should; None where that is not our business."""
        return None if self._security is None else self._in_step and self._done.is_set()

    def is_at_broker(self, account: Account) -> bool | None:
        """Tell whether the broker is known to have an account as it should be; None where that is not our business."""
        if self._security is None:
            return None
        if self._held is None or not account.lives:
            return False
        wanted = roster_of([account], self._topics, self._accounts.key())
        return all(self._held.clients.get(name) == client for name, client in wanted.clients.items())

    async def settled(self, seconds: float = SETTLE_SECONDS) -> bool:
        """Wait for the broker to be told what has changed; tell whether it has all of it, in that time.

        While it is away, nobody waits: it hears of it when it is back.
        """
        if self._security is None:
            return True
        if not self._security.is_linked:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            return False
        return self._in_step

    def on_link_up(self) -> None:
        """Look anew at what the broker has: it may have another disk than before.

        Who was revoked while there was no hub, or no link, is seen off as well.
        """
        self._held = None
        self._leaving |= {one.name: one for one in self._accounts.all() if one.kind is Kind.WORKER and not one.lives}
        self._want()

    def on_link_lost(self) -> None:
        """Wait no more for what the broker was asked."""
        if self._security:
            self._security.on_link_lost()

    async def run(self) -> None:
        """Keep the broker in step, for as long as the hub runs."""
        if self._security is None:
            return
        while True:
            await self._to_do.wait()
            self._to_do.clear()
            self._in_step = await self._try(self._security)
            await self._sweep()  # before anybody hears that it is done: they may come back under that client id at once
            if not self._to_do.is_set():
                self._done.set()
            if not self._in_step:
                self._held = None
                await self._wait_for_more(RETRY_SECONDS)

    async def _wait_for_more(self, seconds: float) -> None:
        """Return when there is something new to tell, or with all of it again after a while."""
        try:
            async with asyncio.timeout(seconds):
                await self._to_do.wait()
        except TimeoutError:
            self._to_do.set()

    async def _on_change(self, revoked: Sequence[Account]) -> None:
        self._leaving |= {one.name: one for one in revoked if one.kind is Kind.WORKER}
        self._want()
        if self._security is None:
            await self._dismiss()

    def _want(self) -> None:
        self._done.clear()
        self._to_do.set()

    async def _try(self, security: DynamicSecurity) -> bool:
        try:
            done = await self._bring_in_step(security)
        except BrokerSilent as error:
            log.warning("accounts_not_brought_to_the_broker", reason=str(error), next_try_seconds=RETRY_SECONDS)
            return False
        except SettingsError as error:  # the key cannot be read just now: that must not end the hub
            log.error("accounts_without_their_key", reason=str(error), next_try_seconds=RETRY_SECONDS)  # noqa: TRY400
            return False
        await self._dismiss()
        return done

    async def _bring_in_step(self, security: DynamicSecurity) -> bool:
        """Tell the broker the difference; return whether it has all that it should. Raises `BrokerSilent`."""
        accounts, key = self._accounts.all(), self._accounts.key()
        held, self._held = self._held or await security.roster(), None
        wanted = roster_of(accounts, self._topics, key)
        self._sessions |= dict.fromkeys(bereft(wanted, held))
        refused = await _tell(security, commands_for(wanted, held, passwords_of(accounts, key)))
        clashing = clashes(wanted, held)
        if clashing:
            remedy = "delete it there (mosquitto_ctrl dynsec), or revoke the account of that name"
            log.error("broker_has_others_of_that_name", names=sorted(clashing), remedy=remedy)
        if refused or clashing:
            return False
        self._held = wanted._replace(strangers=held.strangers, strange_roles=held.strange_roles)
        return True

    async def _sweep(self) -> None:
        """End sessions, until there is something to tell the broker."""
        while self._sweeping and self._sessions and not self._to_do.is_set():
            client_id = next(iter(self._sessions))
            try:
                await self._sweeping.end(client_id)
            except (BrokerSilent, LinkDown, TimeoutError) as error:  # tried again when the broker is told something
                log.warning("session_not_ended", client_id=client_id, reason=str(error) or "no connection in time")
                return
            del self._sessions[client_id]
            log.info("session_ended", client_id=client_id)

    async def _dismiss(self) -> None:
        """See off who was revoked, unless they were enrolled again meanwhile."""
        leaving, self._leaving = self._leaving, {}
        for account in leaving.values():
            if not self._accounts.lives(account.name):
                await self.on_revoked(account)


async def _tell(security: DynamicSecurity, commands: list[Command]) -> int:
    """Give the broker commands; return how many it has refused."""
    answers = await security.ask(commands)
    refused = [(one, answer.error) for one, answer in zip(commands, answers, strict=True) if answer.error]
    for command, error in refused:
        name = command.get("username") or command.get("rolename")
        log.error("broker_refused_a_command", command=command["command"], name=name, reason=error)
    if commands:
        log.info("accounts_brought_to_the_broker", commands=len(commands), refused=len(refused))
    return len(refused)


async def _nothing(_: Account) -> None:
    """Do nothing for a worker whose account was revoked."""
