"""Sees off a worker whose account was revoked, so that the fleet shows it gone at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.link import Incoming
from broker.log import get_logger
from broker.messages import Farewell, encode
from broker.topics import Status

if TYPE_CHECKING:
    from hub.fleet import Fleet
    from hub.gateway import Gateway
    from hub.reception import Reception
    from hub.rules.access import Account
    from hub.wire import Wire

log = get_logger(__name__)


class Dismissal:
    """Says the last word for a worker that may say none.

    The plugin throws a client off without its will (mosquitto 2.0.11), and what is retained would show it online.
    """

    def __init__(self, fleet: Fleet, reception: Reception, gateway: Gateway, wire: Wire) -> None:
        self._fleet = fleet
        self._reception = reception
        self._gateway = gateway
        self._wire = wire

    async def dismiss(self, account: Account) -> None:
        """End what a worker has here: its link by HTTP, and its presence, also in what the broker retains."""
        await self._gateway.dismiss(account.name)
        worker = self._fleet.get(account.name)
        if worker is None or worker.presence.session is None or not worker.is_there:
            return
        address = Status(worker.site, worker.id)
        topic, payload = (
            self._wire.topics.build(address),
            encode(Farewell(state="offline", session=worker.presence.session)),
        )
        self._wire.send_to(topic, payload, retain=True)
        await self._reception.on_status(address, Incoming(topic, payload, False, None, None, lambda: None))  # noqa: FBT003
        log.info("worker_dismissed", worker=worker.id, site=worker.site)
