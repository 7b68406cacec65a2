"""Tasks out, leases watched: driven by what changes, and by deadlines.

It keeps the unended tasks in memory (`hub.rules.waiting`). The database is the truth: each decision is checked against
it in the transaction that carries it out, and what the transaction changed comes back through the feed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import MAX_MESSAGE_BYTES, Cancel, encode
from broker.topics import Control, WorkerTasks
from hub.offering import Offering
from hub.rules import life, placement
from hub.rules.leases import is_before
from hub.rules.presence import PresenceState, was_frozen
from hub.rules.task import ENDED, Drop, TaskState
from hub.rules.waiting import Waiting, shape_of
from hub.store import tasks as store
from hub.store.cases import load as load_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Connection

    from hub.feed import Feed
    from hub.fleet import Fleet, Hello, Worker
    from hub.rules.leases import Lease, Ref
    from hub.rules.placement import Place, Shape
    from hub.rules.task import Task
    from hub.rules.waiting import Due
    from hub.settings import HubSettings
    from hub.store.cases import Change
    from hub.store.ledger import Ledger
    from hub.store.tasks import Sent
    from hub.wire import Wire

MAX_PLACED = 500
"""Tasks in one assignment transaction."""

MAX_SENDS = 6
"""How often an attempt that may not run twice is sent in vain to a worker that is there."""

TICK_SECONDS = 0.25
RETRY_SECONDS = 2.0
"""How long the dispatcher waits when the database does not take what it decided."""

LOST_THERE = "does not hold it any more, and has not told how it ended"

Found = TypeVar("Found")

log = get_logger(__name__)


class Dispatcher:
    """Places what waits, and takes back what a worker does not answer for."""

    def __init__(self, settings: HubSettings, fleet: Fleet, ledger: Ledger, feed: Feed, wire: Wire) -> None:
        self._accept_timeout_ms = int(settings.accept_timeout_seconds * 1000)
        self._lost_after_ms = int(settings.lost_after_seconds * 1000)
        self._fleet = fleet
        self._ledger = ledger
        self._feed = feed
        self._wire = wire
        self._waiting = Waiting(self._accept_timeout_ms)
        self._offering = Offering(fleet, wire, self._accept_timeout_ms)
        self._declined: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._missing: dict[str, tuple[Hello, set[Ref]]] = {}
        self._given_up: list[tuple[Lease, str]] = []
        self._returned: set[str] = set()
        self._ended: Counter[str] = Counter()
        self._able: dict[Shape, list[Place]] = {}
        self._turn = 0
        self._link_up_ms = self._heard_since_ms = now_ms()
        self._wake = asyncio.Event()

    # -- what it is told -------------------------------------------------------------------------------------------

    def load(self, tasks: Iterable[Task]) -> None:
        """Take up what an earlier hub left."""
        for task in tasks:
            self._waiting.put(task, now_ms())
            self._recount(task.worker)

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Follow what a transaction changed."""
        now = now_ms()
        for before, after in changes:
            self._waiting.follow(after, now)
            self._recount(before.worker if before else None)
            self._recount(after.worker)
            if after.state in ENDED:
                self._declined.pop(after.id, None)
                self._ended[after.worker or ""] += 1
        self._wake.set()

    def on_fleet(self) -> None:
        """Follow a worker that came, went, or can do other things now."""
        self._able.clear()
        self._wake.set()

    def on_link_up(self) -> None:
        """Begin to count silence anew: while the hub's own link was down, nobody who speaks by it could be heard."""
        self._link_up_ms = now_ms()
        self._waiting.forgive(self._link_up_ms)
        self._wake.set()

    def on_hello(self, hello: Hello) -> None:
        """Note what a worker accepted and does not hold any more: its journal may tell how that ended.

        What it accepted after it said so is not judged by it. Batches can overtake a heartbeat, so the mark of each
        lease tells, and not the order of arrival.
        """
        leases = self._waiting.leases
        if hello.is_birth:  # what it has not accepted is either held or sent again with the answer
            leases.keep(hello.worker, None, now_ms())
            self._waiting.keep_offers(hello.held, now_ms())
            self._returned.discard(hello.worker)
        self._mark_leases(hello)
        self._missing[hello.worker] = (hello, {lease.ref for lease in leases.unnamed(hello.worker, hello.held)})

    def on_synced(self, worker_id: str) -> None:
        """Take back what a worker did not hold, and has not told of: it lost it."""
        hello, missing = self._missing.pop(worker_id, (None, set()))
        if hello is None:
            return
        self._mark_leases(hello)
        why = f"{worker_id} came back without it" if hello.is_birth else f"{worker_id} {LOST_THERE}"
        unnamed = self._waiting.leases.unnamed(worker_id, hello.held)
        self._given_up.extend(
            (lease, why)
            for lease in unnamed
            if lease.ref in missing and is_before(lease.mark, hello.journal.stream, hello.journal.newest)
        )
        if hello.is_birth and self._waiting.is_asked_after(worker_id):
            self._returned.add(worker_id)
        self._waiting.hasten_offers(worker_id, now_ms())

    def on_heartbeat(self, hello: Hello) -> None:
        """Let a worker answer for what it says that it holds, accepted or not; ask it again to stop what it should."""
        self._waiting.leases.keep(hello.worker, hello.held, now_ms())
        self._waiting.keep_offers(hello.held, now_ms())
        held = [lease for lease in self._waiting.leases.of(hello.worker) if lease.cancelled and lease.ref in hello.held]
        self.on_drops(Drop(lease.worker, *lease.ref, life.CANCELLING) for lease in held)

    def on_declined(self, worker: str, tasks: Iterable[str]) -> None:
        """Do not offer a task again to a session that declined it."""
        known = self._fleet.get(worker)
        for task in tasks:
            self._declined[task][worker] = known.place.session if known else ""

    def on_drops(self, drops: Iterable[Drop]) -> None:
        """Tell workers to stop what they should not hold."""
        for drop in drops:
            worker = self._fleet.get(drop.worker)
            if worker:
                cancel = Cancel(task=drop.task, attempt=drop.attempt, reason=drop.reason)
                self._wire.send(Control(worker.site, worker.id), encode(cancel))

    def reason(self, task: Task) -> str | None:
        """Return why a task stands where it does, in words; for a pending one always."""
        if task.state is not TaskState.PENDING:
            return task.reason
        offer = self._waiting.offer(task.id)
        if offer:
            return self._offering.why(offer)
        if self._waiting.is_delayed(task.id):
            return f"{task.reason}; it waits for its next try"
        able = self._candidates(shape_of(task))
        if able and all(self._is_excluded(task.id, place) for place in able):
            return f"{task.reason}; no other online worker can run it"
        return placement.explain(shape_of(task), self._fleet.places())

    # -- what it does ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Place tasks whenever something has changed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await self._place_some():
                pass

    async def watch_deadlines(self) -> None:
        """Look after deadlines, four times a second."""
        before = now_ms()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = now_ms()
            self._measure_rates((now - before) / 1000)
            if was_frozen(before, now, int(TICK_SECONDS * 1000)):
                self._on_frozen(now)
            before = now
            await self._tick(now)

    async def _place_some(self) -> bool:
        placed = placement.place(
            self._waiting.backlog,
            self._candidates,
            limit=MAX_PLACED,
            turn=self._turn,
            excluded=self._is_excluded,
        )
        if not placed:
            return False
        self._turn += len(placed)
        try:
            changes, sent = await self._ledger.commit(partial(store.assign, placed=placed, now=now_ms()))
        except SQLAlchemyError:
            log.exception("tasks_not_assigned", count=len(placed), next_try_seconds=RETRY_SECONDS)
            await self._take_up_again([one.task for one in placed])
            return False
        self._feed.publish(changes)
        self._publish(sent)
        return True

    async def _take_up_again(self, ids: list[str]) -> None:
        """Put tasks back where they wait, after a while: what was decided for them was not committed."""
        await asyncio.sleep(RETRY_SECONDS)
        cases = await self._look_up(partial(load_cases, ids=ids))
        for case in cases.values():
            self._waiting.take_out(case.task.id)
            self._waiting.put(case.task, now_ms())
        for place in self._fleet.places():
            self._recount(place.worker)
        self._wake.set()

    async def _look_up(self, read: Callable[[Connection], Found]) -> Found:
        """Read, however long the database fails: a read shares the commit, and so the fate, of the writes beside it."""
        while True:
            try:
                return await self._ledger.commit(read)
            except SQLAlchemyError:
                log.exception("database_failed", next_try_seconds=RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)

    def _publish(self, sent: Iterable[Sent]) -> None:
        by_worker: defaultdict[str, list[str]] = defaultdict(list)
        for one in sent:
            by_worker[one.worker].append(one.payload)
        for worker_id, payloads in by_worker.items():
            worker = self._fleet.get(worker_id)
            if worker:
                for message in arrays(payloads):
                    self._wire.send(WorkerTasks(worker.site, worker.id), message)

    async def _tick(self, now: int) -> None:
        due = self._waiting.due(now)
        if due.tried_again:
            self._wake.set()
        rules: dict[str, life.Rule] = {
            task.id: partial(life.on_expired, now=now, why=self.reason(task)) for task in due.expired
        }
        rules |= self._rules_of_offers(due, now)
        for lease in due.unaccepted:
            if self._hears(lease.worker):
                rules[lease.task] = self._rule_of_unaccepted(lease, now)
        for lease, why in (*self._take_given_up(), *self._held_by_lost_workers(now)):
            rules[lease.task] = partial(life.on_lost, number=lease.attempt, why=why, now=now)
        if rules:
            await self._move(rules)
        await self._send_again(due)
        await self._resume()

    def _rules_of_offers(self, due: Due, now: int) -> dict[str, life.Rule]:
        if not self._wire.connected.is_set():  # nobody could have told: what fell due is given as long again
            return {}
        judged = {offer.task.id: self._offering.judge(offer, now) for offer in due.offers}
        return {task: rule for task, rule in judged.items() if rule}

    def _rule_of_unaccepted(self, lease: Lease, now: int) -> life.Rule:
        if lease.sends >= MAX_SENDS:
            why = (
                f"{lease.worker} was sent it {lease.sends + 1} times and did not accept it: it may have ended it before"
            )
            return partial(life.on_lost, number=lease.attempt, why=why, now=now)
        waited = f"did not accept it in {self._accept_timeout_ms / 1000:g} s"
        return partial(life.on_unaccepted, number=lease.attempt, why=f"{lease.worker} {waited}", now=now)

    async def _send_again(self, due: Due) -> None:
        """Send what may not run twice once more as it was: it may run already, and only the same attempt is safe."""
        again = [lease.task for lease in due.unaccepted if not lease.idempotent and self._is_online(lease.worker)]
        if again:
            sent = await self._look_up(partial(store.again, ids=again))
            self._publish(sent)
            self._waiting.leases.sent_again(again)

    async def _resume(self) -> None:
        """Send workers that came back what they had not taken before they went."""
        returned, self._returned = self._returned, set()
        for worker in returned:
            try:
                changes, sent = await self._ledger.commit(partial(store.resume, worker=worker))
            except SQLAlchemyError:
                log.exception("tasks_not_resumed", worker=worker)
                self._returned.add(worker)
            else:
                self._feed.publish(changes)
                self._publish(sent)

    async def _move(self, rules: dict[str, life.Rule]) -> None:
        try:
            changes = await self._ledger.commit(partial(store.move, rules=rules))
        except SQLAlchemyError:
            log.exception("tasks_not_moved", count=len(rules), next_try_seconds=RETRY_SECONDS)
            await self._take_up_again(list(rules))
        else:
            self._feed.publish(changes)

    # -- within ----------------------------------------------------------------------------------------------------

    def _mark_leases(self, hello: Hello) -> None:
        """Note how far this worker's journal is committed: not before that, it accepted what we know it has."""
        worker, stream = self._fleet.get(hello.worker), hello.journal.stream
        through = worker.marks.get(stream) if worker else None
        if through is not None:
            self._waiting.leases.mark(hello.worker, stream, through)

    def _take_given_up(self) -> list[tuple[Lease, str]]:
        given_up, self._given_up = self._given_up, []
        return given_up

    def _held_by_lost_workers(self, now: int) -> list[tuple[Lease, str]]:
        return [
            (lease, f"{worker.id} is offline: {worker.presence.reason or 'not seen'}")
            for worker in self._fleet.all()
            if worker.presence.state is PresenceState.OFFLINE
            and self._hears(worker.id)
            and now - max(worker.presence.since_ms, self._heard_since(worker)) > self._lost_after_ms
            for lease in self._waiting.leases.of(worker.id)
        ]

    def _on_frozen(self, now: int) -> None:
        """The hub itself stood still: nobody is judged for what it did not hear."""
        self._heard_since_ms = now
        self._waiting.forgive(now)

    def _heard_since(self, worker: Worker) -> int:
        return self._heard_since_ms if worker.by_http else max(self._heard_since_ms, self._link_up_ms)

    def _hears(self, worker_id: str) -> bool:
        """Tell whether a worker could be heard, if it said something."""
        worker = self._fleet.get(worker_id)
        return self._wire.connected.is_set() or (worker is not None and worker.by_http)

    def _is_online(self, worker_id: str) -> bool:
        worker = self._fleet.get(worker_id)
        return worker is not None and worker.place.online

    def _candidates(self, shape: Shape) -> list[Place]:
        able = self._able.get(shape)
        if able is None:
            able = [place for place in self._fleet.places() if place.online and placement.fits(shape, place)]
            self._able[shape] = able
        return able

    def _is_excluded(self, task: str, place: Place) -> bool:
        declined = self._declined.get(task)
        return declined is not None and declined.get(place.worker) == place.session

    def _recount(self, worker_id: str | None) -> None:
        worker = self._fleet.get(worker_id) if worker_id else None
        if worker:
            worker.place.in_flight = self._waiting.leases.count(worker.id)

    def _measure_rates(self, elapsed_seconds: float) -> None:
        for place in self._fleet.places():
            ended = self._ended.pop(place.worker, 0)
            if ended or place.rate:
                rate = placement.new_rate(place.rate, ended, elapsed_seconds)
                place.rate = rate if rate > 0.01 else 0.0  # noqa: PLR2004  an idle worker comes to rest
        self._ended.clear()


def arrays(payloads: Iterable[str]) -> Iterable[bytes]:
    """Join JSON texts into arrays, none of them larger than a message may be."""
    batch: list[str] = []
    size = 2
    for payload in payloads:
        length = len(payload.encode()) + 1
        if batch and size + length > MAX_MESSAGE_BYTES:
            yield f"[{','.join(batch)}]".encode()
            batch, size = [], 2
        batch.append(payload)
        size += length
    if batch:
        yield f"[{','.join(batch)}]".encode()
