"""Who is there: moved by what workers say, by their silence, and by the hub's own link (DESIGN §6).

What follows from what is decided in `hub.rules.presence`, for one worker, and in `hub.rules.sites`, for all of a site.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from broker.clock import now_ms
from broker.log import get_logger
from broker.topics import BRIDGE_CUT
from hub.rules import presence as rules
from hub.rules.sites import shown_anew
from hub.store.workers import save_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker.link import Incoming
    from broker.topics import Bridge
    from hub.fleet import Fleet
    from hub.greeting import Greeting
    from hub.rules.presence import Presence
    from hub.store.ledger import Ledger
    from hub.store.workers import WorkerRow
    from hub.wire import Wire
    from hub.worker import Worker

TICK_SECONDS = 1.0

log = get_logger(__name__)


class Attendance:
    """Keeps the presence of every worker up to date, in memory and in the database.

    Args:
        fleet: The workers.
        ledger: Keeps what is known of them over restarts.
        wire: Is told how to reach whom.
        greeting: Takes back the credit of who is gone.

    """

    def __init__(self, fleet: Fleet, ledger: Ledger, wire: Wire, greeting: Greeting) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._wire = wire
        self._greeting = greeting
        self._listeners: list[Callable[[Worker], None]] = []

    def listen(self, listener: Callable[[Worker], None]) -> None:
        """Call `listener` with a worker that comes, goes, or can do other things. It must be quick, and not raise."""
        self._listeners.append(listener)

    def load(self, rows: Iterable[WorkerRow]) -> None:
        """Take up what an earlier hub knew. Who was online then may not be now: judgement is held."""
        now = now_ms()
        for row in rows:
            worker = self._fleet.add(row.id, row.site)
            worker.birth, worker.heartbeat, worker.clocks = row.birth, row.heartbeat, row.clocks
            worker.presence = rules.on_frozen(rules.on_link_lost(row.presence, now), now)
            self._fleet.site(row.site).there += worker.is_there
            self._wire.reach(row.id, by_http=worker.by_http)
            self._fleet.refresh(worker)

    def move(self, worker: Worker, presence: Presence) -> None:
        """Let `presence` be what is believed of a worker, and tell who listens what that changes."""
        before, was_there = worker.presence, worker.is_there
        place = replace(worker.place)
        worker.presence = presence
        self._fleet.refresh(worker)
        moved = (before.state, before.reason) != (presence.state, presence.reason)
        if moved or worker.place != place:
            self._tell(worker)
        if moved:
            _log(worker)
        if worker.is_there != was_there:
            self._count(worker)

    async def keep(self, worker: Worker) -> None:
        """Keep what is known of a worker. Where that fails it holds in memory, and is kept with the next word of it."""
        try:
            await self._ledger.commit(partial(save_workers, rows=[worker.row]))
        except SQLAlchemyError as error:
            log.error("worker_not_kept", worker=worker.id, error=str(error))  # noqa: TRY400

    def on_link_lost(self) -> None:
        """Hold judgement on everybody whom the hub sees by its own link to the broker: that went."""
        self._move_all(lambda worker: rules.on_link_lost(worker.presence, now_ms()))

    def on_link_up(self) -> None:
        """Begin to count silence anew."""
        self._move_all(lambda worker: rules.on_link_up(worker.presence, now_ms()))

    async def on_bridge(self, address: Bridge, incoming: Incoming) -> None:
        """Hear from a bridge of Mosquitto that a site's own broker is cut off, or joined: then its workers speak up."""
        site = self._fleet.site(address.site)
        site.is_cut = incoming.payload == BRIDGE_CUT
        log.info("bridge", site=address.site, state="cut" if site.is_cut else "joined")
        if site.is_cut:
            lost = [worker for worker in site.workers.values() if worker.is_there and not worker.by_http]
            for worker in lost:
                self.move(worker, rules.on_cut(worker.presence, now_ms()))
            self._keep_soon(lost)
        incoming.ack()

    async def watch_silence(self) -> None:
        """Judge silence once a second: of those whom the hub could have heard."""
        while True:
            before = now_ms()
            await asyncio.sleep(TICK_SECONDS)
            self.look(before, now_ms(), every_ms=int(TICK_SECONDS * 1000))

    def look(self, before: int, now: int, *, every_ms: int) -> None:
        """Judge silence, `every_ms` and the last time at `before`."""
        if rules.was_frozen(before, now, every_ms):
            log.warning("hub_stood_still", seconds=(now - before) / 1000)
            for worker in self._fleet:
                worker.presence = rules.on_frozen(worker.presence, now)
        self._judge(now)
        self._greeting.tick(now)

    def _judge(self, now: int) -> None:
        changed = []
        for worker in self._fleet:
            if worker.by_http or self._wire.connected.is_set():
                presence = rules.on_tick(worker.presence, now)
                if presence is not worker.presence:
                    self.move(worker, presence)
                    changed.append(worker)
        self._keep_soon(changed)

    def _move_all(self, judge: Callable[[Worker], Presence]) -> None:
        for worker in self._fleet:
            if not worker.by_http:
                self.move(worker, judge(worker))

    def _count(self, worker: Worker) -> None:
        """Follow who of a site is there: the last to go and the first to come back tell of the others too."""
        site = self._fleet.site(worker.site)
        site.there += 1 if worker.is_there else -1
        if worker.is_there:
            self._greeting.on_back(worker.id)
        else:
            self._greeting.on_gone(worker.id)
        if site.there <= worker.is_there and not site.is_cut:
            self._show_anew(site.workers)

    def _show_anew(self, workers: dict[str, Worker]) -> None:
        anew = shown_anew({name: one.presence for name, one in workers.items()})
        for name, presence in anew.items():
            workers[name].presence = presence
            _log(workers[name])
            self._tell(workers[name])
        self._keep_soon([workers[name] for name in anew])

    def _keep_soon(self, workers: list[Worker]) -> None:
        """Keep what is known of workers, and do not wait for it."""
        if workers:
            rows = [worker.row for worker in workers]
            self._ledger.submit(partial(save_workers, rows=rows)).add_done_callback(_report_failure)

    def _tell(self, worker: Worker) -> None:
        for listener in self._listeners:
            listener(worker)


def _log(worker: Worker) -> None:
    state, reason = worker.presence.state, worker.presence.reason
    log.info("worker", worker=worker.id, site=worker.site, state=state, reason=reason)


def _report_failure(future: asyncio.Future[None]) -> None:
    error = None if future.cancelled() else future.exception()
    if error:
        log.error("workers_not_kept", error=str(error))
