"""Ends what a broker keeps for clients that may not come back, or not to what they had subscribed to.

Who loses a right keeps the session in which it was used: mosquitto 2.0.11 throws a client off, and its session stays.
A shared subscription in there goes on taking its share of a site's tasks, for days, and nobody gets those. So the hub
connects in the client's place, under its client id, starts clean, and leaves (MQTT 5, §3.1.2.4).
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from hub.errors import BrokerSilent
from hub.rules.reconcile import sweeper

if TYPE_CHECKING:
    from broker.link import Link
    from hub.dynsec import DynamicSecurity

CONNECT_SECONDS = 10.0


class Sweeping:
    """Ends sessions, one at a time.

    Args:
        security: Lets a client of the hub's own in for as long as that takes.
        link: How the hub reaches the broker.

    """

    def __init__(self, security: DynamicSecurity, link: Link) -> None:
        self._security = security
        self._link = link

    async def end(self, client_id: str) -> None:
        """End the session of a client id, if there is one.

        Raises:
            BrokerSilent: If the plugin does not answer, or refuses.
            LinkDown: If there was no connection.
            TimeoutError: If there was none in time.

        """
        password = secrets.token_urlsafe(32)
        begin, finish = sweeper(client_id, password)
        answer = (await self._security.ask([finish, begin]))[1]  # one that a hub before this one has left is made anew
        if answer.error is not None:
            raise BrokerSilent(f"it refuses {answer.command}: {answer.error}")
        try:
            account = replace(self._link.account, username=begin["username"], password=password)
            link = replace(self._link, client_id=client_id, account=account, session_expiry_seconds=0)
            async with asyncio.timeout(CONNECT_SECONDS), link.connect():
                pass
        finally:
            await self._security.ask([finish])
