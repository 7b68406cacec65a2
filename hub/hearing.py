"""Whether the hub could have heard a worker, and since when: nobody is judged for a time in which nobody listened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.clock import now_ms

if TYPE_CHECKING:
    from hub.fleet import Fleet
    from hub.wire import Wire


class Hearing:
    """What the hub can hear: those who speak by way of the broker while its own link is up, the others always."""

    def __init__(self, fleet: Fleet, wire: Wire) -> None:
        self._fleet = fleet
        self._wire = wire
        self._link_up_ms = self._awake_ms = now_ms()

    def on_link_up(self, now: int) -> None:
        """Begin anew: the hub's own link was down."""
        self._link_up_ms = now

    def on_frozen(self, now: int) -> None:
        """Begin anew: the hub itself stood still."""
        self._awake_ms = now

    def hears_the_broker(self) -> bool:
        """Tell whether the hub's own link is up."""
        return self._wire.connected.is_set()

    def hears(self, worker_id: str) -> bool:
        """Tell whether a worker could be heard, if it said something."""
        worker = self._fleet.get(worker_id)
        return self.hears_the_broker() or (worker is not None and worker.by_http)

    def since_ms(self, worker_id: str) -> int:
        """Return since when a worker could have been heard."""
        worker = self._fleet.get(worker_id)
        by_http = worker is not None and worker.by_http
        return self._awake_ms if by_http else max(self._awake_ms, self._link_up_ms)
