"""The doctor at the broker.

While a hub is connected, it is the hub that is asked how it fares there: the hub's account may be bound to its client
id, and a second connection with that would end the hub's own. Else the doctor connects as the hub would.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from typing import TYPE_CHECKING, Any

from cryptography import x509

from broker.access import account_of
from broker.account import tls_context
from broker.doctor import Finding, Level, bad, ok, warn
from broker.errors import LinkDown, SettingsError
from broker.link import Link
from broker.topics import Control, Topics
from broker.trouble import Peer, of_connecting
from broker.url import BrokerUrl
from hub.doctor.certificates import judge
from hub.doctor.listener import NoHub, ask_health
from hub.doctor.plugin import check_plugin
from hub.doctor.words import named
from hub.listening import is_loopback
from hub.wire import SESSION_EXPIRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from broker.account import Account as Login
    from broker.link import Connection
    from hub.rules.access import Account
    from hub.settings import HubSettings

PATIENCE_SECONDS = 10.0
_NOBODY = Control("nobody", "doctor")
"""A topic of the hub's that no worker hears: to see whether it may publish there."""


async def check_broker(settings: HubSettings, accounts: Sequence[Account], key: bytes | None) -> list[Finding]:
    """Look at the broker as the hub finds it.

    Args:
        settings: Those of the hub.
        accounts: Those that the broker should have.
        key: The hub's, if it has one.

    """
    try:
        login = account_of(settings, "HUB_")
    except SettingsError as error:
        return [bad(str(problem), "give a file that this user can read") for problem in error.problems]
    return [one async for one in _look(settings, login, accounts, key)]


async def _look(
    settings: HubSettings, login: Login, accounts: Sequence[Account], key: bytes | None
) -> AsyncIterator[Finding]:
    where = BrokerUrl.parse(settings.broker_url)
    for one in _secrecy(settings, where):
        yield one
    async for one in _way(where, login):
        yield one
        if one.level == Level.BAD:  # with what it says, no connection can be made
            return
    health = await _health(settings)
    if health and health["broker"] == "connected":
        for one in _by_the_hub(health):
            yield one
        return
    async for one in _inside(settings, login, accounts, key):
        yield one


async def _way(where: BrokerUrl, login: Login) -> AsyncIterator[Finding]:
    peer = Peer(host=where.host, port=where.port, secure=where.secure, ca=login.authority, prefix="HUB_")
    yield await _resolve(where, peer)
    if where.secure:
        yield await _certificate(where, login, peer)


async def _inside(
    settings: HubSettings, login: Login, accounts: Sequence[Account], key: bytes | None
) -> AsyncIterator[Finding]:
    # As the hub: what waits for it in its session goes on waiting, since nothing is acknowledged here.
    link = Link(
        url=settings.broker_url,
        client_id=settings.client_id,
        account=login,
        session_expiry_seconds=SESSION_EXPIRY_SECONDS,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), link.connect() as connection:
            who = f"the account {login.username!r}" if login.username else "clients without an account"
            yield ok(f"it lets {who} in")
            yield await _rights(connection, Topics(settings.root))
            if settings.manage_accounts:
                for one in await check_plugin(connection, settings, accounts, key):
                    yield one
    except LinkDown as error:
        yield bad(error.reason, error.remedy or "see the broker's log")
    except TimeoutError:
        yield bad(
            f"{settings.broker_url} does not answer in {PATIENCE_SECONDS:g} s", "see the broker's log, and its load"
        )


async def _health(settings: HubSettings) -> dict[str, Any] | None:
    try:
        return await ask_health(settings) if settings.http_port else None
    except NoHub:
        return None


def _by_the_hub(health: dict[str, Any]) -> Iterator[Finding]:
    yield ok("the hub that runs is connected to it")
    accounts = health.get("accounts")
    if accounts == "ok":
        yield ok("and has brought all accounts to it")
    elif accounts is not None:
        yield bad(
            f"accounts: {accounts}", "the hub's log says what the broker did not take; it is tried again each 30 s"
        )


def _secrecy(settings: HubSettings, where: BrokerUrl) -> Iterator[Finding]:
    if where.secure or is_loopback(where.host):
        return
    if settings.username:
        yield warn(
            f"the hub's password, and all that workers say, goes to {where.host} in clear",
            "unless that network is yours alone, use mqtts:// (docs/tls.md)",
        )
    else:
        yield warn(
            f"{settings.broker_url} is used without an account: whoever reaches it may do what the hub does",
            "edge-hub broker init, and HUB_USERNAME (docs/accounts.md)",
        )


async def _resolve(where: BrokerUrl, peer: Peer) -> Finding:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except OSError as error:
        why = of_connecting(error, peer)
        return bad(why.reason, why.remedy)
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    return ok(f"{where.host} is {named(addresses)}" if addresses != [where.host] else f"it is at {where.host}")


async def _certificate(where: BrokerUrl, login: Login, peer: Peer) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            context = tls_context(login, and_system=False)
            _, writer = await asyncio.open_connection(where.host, where.port, ssl=context)
    except OSError as error:  # and TimeoutError, and TLS's own
        why = of_connecting(error, peer)
        return bad(why.reason, why.remedy or "see docs/tls.md")
    try:
        certificate = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()
    return judge("its certificate", certificate, dt.datetime.now(dt.UTC))


async def _rights(connection: Connection, topics: Topics) -> Finding:
    """Try what the hub does there, in a way that nobody notices."""
    try:
        await connection.subscribe(topics.all_of_sites(), no_local=True)
        await connection.publish(topics.build(_NOBODY), b"{}")
    except LinkDown as error:
        return bad(error.reason, error.remedy or "give the hub's account its role: docs/accounts.md")
    return ok("there the hub may hear all workers, and speak to them")
