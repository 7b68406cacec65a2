"""The doctor at the broker's plugin: whether it answers, and has the accounts that it should have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from broker.doctor import Finding, bad, ok
from broker.topics import SECURITY_ANSWERS, Topics
from hub.doctor.words import named
from hub.dynsec import DynamicSecurity
from hub.errors import BrokerSilent
from hub.rules.reconcile import clashes, roster_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from broker.link import Connection, Incoming
    from hub.rules.access import Account
    from hub.rules.reconcile import Roster
    from hub.settings import HubSettings
    from hub.wire import Wire


async def check_plugin(
    connection: Connection, settings: HubSettings, accounts: Sequence[Account], key: bytes | None
) -> list[Finding]:
    """Ask the plugin, over a connection that may administer it, and compare what it has with `accounts`."""
    carrier = _Carrier(connection)
    security = DynamicSecurity(cast("Wire", carrier))  # of the hub's wire it uses what this one has
    await connection.subscribe(SECURITY_ANSWERS)
    hearing = asyncio.create_task(carrier.hear(), name="plugin")
    try:
        held = await security.roster()
    except BrokerSilent as error:
        return [bad(f"its plugin does not answer: {error}", "see docs/accounts.md")]
    finally:
        hearing.cancel()
        await asyncio.wait([hearing])
    wanted = roster_of(accounts, Topics(settings.root), key) if key else None
    return list(_compare(wanted, held)) if wanted else [ok("its plugin answers; there are no accounts yet")]


def _compare(wanted: Roster, held: Roster) -> Iterator[Finding]:
    start = "start the hub, which brings them there; what it cannot, its log says: broker_refused_a_command"
    missing = sorted(wanted.clients.keys() - held.clients.keys() - held.strangers)
    other = sorted(name for name, one in held.clients.items() if name in wanted.clients and wanted.clients[name] != one)
    surplus = sorted(held.clients.keys() - wanted.clients.keys())
    taken = sorted(clashes(wanted, held))
    if missing:
        yield bad(f"accounts that the broker does not have: {named(missing)}", start)
    if other:
        yield bad(f"accounts with another password or other rights there: {named(other)}", start)
    if surplus:
        yield bad(f"accounts that the broker still has, and should not: {named(surplus)}", start)
    if taken:
        yield bad(
            f"names that somebody else has taken at the broker: {named(taken)}", "delete these, or rename the workers"
        )
    if not (missing or other or surplus or taken):
        yield ok(f"its plugin has all {len(wanted.clients)} clients, as they should be")


class _Carrier:
    """What the plugin's protocol needs of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._group: set[asyncio.Task[None]] = set()
        self._listener: Callable[[Incoming], None] = lambda incoming: incoming.ack()
        self.connected = asyncio.Event()
        self.connected.set()

    def listen(self, _topic: str, handler: Callable[[Incoming], None]) -> None:
        self._listener = handler

    def send_to(self, topic: str, payload: bytes) -> None:
        sending = asyncio.ensure_future(self._connection.publish(topic, payload))
        self._group.add(sending)
        sending.add_done_callback(self._group.discard)

    async def hear(self) -> None:
        async for incoming in self._connection.messages():
            if incoming.topic == SECURITY_ANSWERS:
                self._listener(incoming)
