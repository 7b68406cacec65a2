"""Looks for the broker: whether it can be reached, lets this worker in, and lets it do what it must.

Where an agent runs, what it says counts, and nobody else connects in its name. Where none runs, a connection is made as
the agent would: the session that the broker may keep for it is not ended, and no task is taken from the site.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

from broker.account import tls_context
from broker.doctor import bad, ok, warn
from broker.errors import LinkDown, Refused
from broker.link import Link
from broker.messages import Bootstrap
from broker.topics import Control, Reply, Topics
from broker.trouble import Peer, of_connecting
from broker.url import BrokerUrl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.doctor import Finding
    from edge_agent.doctor.ground import Ground

CONNECT_SECONDS = 5.0
NOBODY = "doctor"
"""In the place of a name that is made only when the agent first starts."""


async def look(ground: Ground) -> Sequence[Finding]:
    """Look for the broker, where the agent would."""
    place, source = _place(ground)
    if ground.identity is None or place is None:
        remedy = "see above, or set WORKER_BROKER_URL" if ground.identity else "correct the settings first"
        return [warn("where the broker is, is not known: the hub did not say, and never has", remedy)]
    url = place.broker_url
    if ground.identity.may_be_enrolled:
        return [warn(f"{url} ({source}): not tried, since this worker has no account yet", "let it be enrolled first")]
    if ground.told:
        return [_as_told(ground, url)]
    if ground.running:
        return [await _reached(ground, url, source), _not_told()]
    return await _tried(ground, place, source)


def _place(ground: Ground) -> tuple[Bootstrap | None, str]:
    settings = ground.settings
    if settings.broker_url:
        return Bootstrap(broker_url=settings.broker_url, root=settings.root), "WORKER_BROKER_URL"
    if ground.bootstrap:
        return ground.bootstrap, "as the hub says"
    if kept := ground.offline.kept_bootstrap():
        return kept, "as the hub said last"
    return ground.identity.bootstrap if ground.identity else None, "as the hub said at enrolment"


# -- where an agent runs ---------------------------------------------------------------------------------------------


def _as_told(ground: Ground, url: str) -> Finding:
    told = ground.told.told if ground.told else {}
    state, transport = told.get("state"), told.get("transport")
    if state == "online" and transport == "http":
        what = f"the running agent goes by HTTP, since {url} cannot be reached"
        return warn(what, "let MQTT pass (the port that the broker's URL names), or let it be: HTTP is slower")
    if state in {"online", "alone"}:
        return ok(f"the running agent is connected with {url}" + (", where no hub is now" if state == "alone" else ""))
    reason = told.get("reason") or "it has not said why"
    return bad(f"the running agent is not connected with {url}: {reason}", told.get("remedy") or "see its log")


def _not_told() -> Finding:
    what = "whether the running agent is let in was not tried: it would lose its own connection"
    return warn(what, "set WORKER_STATUS_FILE, and it says so itself; or stop it, and look again")


async def _reached(ground: Ground, url: str, source: str) -> Finding:
    """Connect, with TLS where that is spoken, and say nothing."""
    where, account = BrokerUrl.parse(url), ground.account
    peer = Peer(host=where.host, port=where.port, secure=where.secure, ca=account.authority, prefix=account.prefix)
    try:
        context = tls_context(account, and_system=False) if where.secure else None
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(where.host, where.port, ssl=context)
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
    except OSError as error:  # as are TLS's own, and a time-out
        trouble = of_connecting(error, peer)
        return bad(f"{url} ({source}): {trouble.reason}", trouble.remedy or "check the address")
    return ok(f"{url} ({source}) can be reached")


# -- where none runs -------------------------------------------------------------------------------------------------


async def _tried(ground: Ground, place: Bootstrap, source: str) -> Sequence[Finding]:
    url, account, worker = place.broker_url, ground.account, ground.worker or NOBODY
    main = Link(
        url=url,
        client_id=worker,
        account=account,
        session_expiry_seconds=ground.settings.session_expiry_seconds,  # what waits there for the agent stays
    )
    intake_account = replace(account, username=account.intake_username or account.username)
    try:
        async with main.connect():
            pass
        async with Link(url=url, client_id=f"{worker}-intake", account=intake_account).connect() as connection:
            topics = Topics(place.root)
            await connection.subscribe(topics.build(Control(ground.settings.site, worker)))
            await connection.publish(topics.build(Reply(f"doctor/{worker}")), b"")
    except LinkDown as down:
        return [_failed(ground, f"{url} ({source})", down)]
    who = f"the account '{account.username}'" if account.username else "clients without an account"
    return [ok(f"{url} ({source}) lets {who} in, at {ground.settings.site}")]


def _failed(ground: Ground, where: str, down: LinkDown) -> Finding:
    what, remedy = f"{where}: {down.reason}", down.remedy or "see the broker's log"
    if isinstance(down, Refused) or ground.bootstrap is None:
        return bad(what, remedy)
    return warn(f"{what}. The agent goes by HTTP meanwhile", remedy)
