"""Tasks out, leases watched: driven by what changes, and by deadlines.

It keeps the unended tasks in memory (`hub.rules.waiting`). The database is the truth: each decision is checked against
it in the transaction that carries it out, and what the transaction changed comes back through the feed. The rooms:
`hub.placing` gives what waits to workers, `hub.expansion` makes children of what is for each of them, `hub.holdings`
follows what they say that they hold, `hub.offering` what was published to them, and `hub.deadlines` carries out what
follows when time is up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.clock import now_ms
from hub.courier import Courier
from hub.deadlines import Deadlines
from hub.decisions import Decisions
from hub.expansion import Expansion
from hub.hearing import Hearing
from hub.holdings import Holdings
from hub.offering import Offering
from hub.placing import Placing
from hub.rules.children import BEING_EXPANDED
from hub.rules.presence import was_frozen
from hub.rules.task import TaskState
from hub.rules.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hub.feed import Feed
    from hub.fleet import Fleet
    from hub.rules.placement import Judged, Place
    from hub.rules.task import Drop, Task
    from hub.settings import HubSettings
    from hub.store.cases import Change
    from hub.store.ledger import Ledger
    from hub.wire import Wire
    from hub.worker import Hello, Worker

TICK_SECONDS = 0.25


class Dispatcher:
    """Places what waits, and takes back what a worker does not answer for."""

    def __init__(self, settings: HubSettings, fleet: Fleet, ledger: Ledger, feed: Feed, wire: Wire) -> None:
        accept_timeout_ms = int(settings.accept_timeout_seconds * 1000)
        self.waiting = Waiting(accept_timeout_ms, settings.limits)
        self._wake = asyncio.Event()
        self._hearing = Hearing(fleet, wire)
        self._courier = Courier(fleet, wire)
        self._offering = Offering(fleet, wire, accept_timeout_ms)
        self._holdings = Holdings(fleet, self.waiting, self._hearing, int(settings.lost_after_seconds * 1000))
        decisions = Decisions(ledger, feed, self.waiting, self._on_failure)
        self._placing = Placing(fleet, self.waiting, decisions, self._courier)
        self._expansion = Expansion(fleet, self.waiting, decisions)
        self._deadlines = Deadlines(
            fleet=fleet,
            waiting=self.waiting,
            hearing=self._hearing,
            holdings=self._holdings,
            offering=self._offering,
            decisions=decisions,
            courier=self._courier,
            accept_timeout_ms=accept_timeout_ms,
            why=self.reason,
            on_backlog=self._wake.set,
        )

    # -- what it is told -------------------------------------------------------------------------------------------

    def load(self, tasks: Iterable[Task]) -> None:
        """Take up what an earlier hub left."""
        for task in tasks:
            self.waiting.put(task, now_ms())
            self._placing.count_limits(task)
        self._placing.count_all()

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Follow what a transaction changed."""
        now = now_ms()
        for change in changes:
            self.waiting.follow(change.after, now)
        self._placing.on_changes(changes)
        self._wake.set()

    def on_fleet(self, worker: Worker) -> None:
        """Follow a worker that came, went, or can do other things now."""
        self._placing.on_fleet(worker)
        self._expansion.on_fleet(worker)
        self._wake.set()

    def on_link_up(self) -> None:
        """Begin to count silence anew: while the hub's own link was down, nobody who speaks by it could be heard."""
        now = now_ms()
        self._hearing.on_link_up(now)
        self.waiting.forgive(now)
        self._wake.set()

    def on_hello(self, hello: Hello) -> None:
        """Note what a worker says that it holds, in a hello or later."""
        self._holdings.on_hello(hello)

    def on_synced(self, worker_id: str) -> None:
        """Judge by what a worker said: all that its journal held then is committed."""
        self._holdings.on_synced(worker_id)

    def on_heartbeat(self, hello: Hello) -> None:
        """Let a worker answer for what it says that it holds, accepted or not; ask it again to stop what it should."""
        self._courier.cancel(self._holdings.on_heartbeat(hello))

    def on_declined(self, worker: str, session: str, tasks: Iterable[str]) -> None:
        """Do not offer a task again to a session that declined it."""
        self._placing.on_declined(worker, session, tasks)

    def on_drops(self, drops: Iterable[Drop]) -> None:
        """Tell workers to stop what they should not hold."""
        self._courier.cancel(drops)

    def reason(self, task: Task) -> str | None:
        """Return why a task stands where it does, in words; for a pending one always."""
        if task.state is not TaskState.PENDING:
            return task.reason
        if self._expansion.is_expanding(task):
            return BEING_EXPANDED
        offer = self.waiting.offer(task.id)
        if offer:
            return self._offering.why(offer)
        if self.waiting.is_delayed(task.id):
            return f"{task.reason}; it waits for its next try"
        return self._placing.why(task)

    def verdicts(self, task: Task) -> list[tuple[Place, Judged]]:
        """Return what each worker is to a task, by the fleet as it is now, and why."""
        return self._placing.verdicts(task)

    # -- what it does ----------------------------------------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether something has changed since `place` began."""
        return self._wake.is_set()

    async def run(self) -> None:
        """Place tasks whenever something has changed."""
        while True:
            await self._wake.wait()
            await self.place()

    async def watch_deadlines(self) -> None:
        """Look after deadlines, four times a second."""
        before = now_ms()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = now_ms()
            await self.look(before, now, every_ms=int(TICK_SECONDS * 1000))
            before = now

    async def place(self) -> None:
        """Place all that can be placed."""
        self._wake.clear()
        await self._expansion.expand()
        while await self._placing.place_some():
            pass

    async def look(self, before: int, now: int, *, every_ms: int) -> None:
        """Look after deadlines, `every_ms` and the last time at `before`."""
        self._placing.measure_rates((now - before) / 1000)
        if was_frozen(before, now, every_ms):
            self._hearing.on_frozen(now)
            self.waiting.forgive(now)
        await self._deadlines.look(now)

    def _on_failure(self) -> None:
        """Begin anew with what the database holds: what was decided in memory was not committed."""
        self._placing.count_all()
        self._wake.set()
