"""Watches tasks that were published to workers, until one has accepted or none can have them (decisions 2 and 5).

Whether a worker has a task that it does not tell of, only the worker can show. So the hub asks it to open its intake
anew: `Renew`. The hello that follows names all that it ever took, or its journal does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.messages import Renew, encode
from broker.topics import Control
from hub.rules import offers
from hub.rules.offers import GiveUp, Judgement, Opening, Place, Wait, opening_of

if TYPE_CHECKING:
    from hub.fleet import Fleet
    from hub.rules.life import Rule
    from hub.rules.waiting import Offer
    from hub.wire import Wire
    from hub.worker import Worker


class Offering:
    """Judges offers whose time is up, and asks those workers for whom they wait.

    Args:
        fleet: Who is there.
        wire: Carries the asking.
        ask_every_ms: How often one worker is asked at most.

    """

    def __init__(self, fleet: Fleet, wire: Wire, ask_every_ms: int) -> None:
        self._fleet = fleet
        self._wire = wire
        self._ask_every_ms = ask_every_ms
        self._asked: dict[str, tuple[int, Opening]] = {}

    def judge(self, offer: Offer, now: int) -> Rule | None:
        """Return what becomes of a task that was not accepted in time; None is to wait."""
        task = offer.task
        pinned = self._fleet.get(task.pinned) if task.pinned else None
        if pinned and not pinned.place.online:
            return None  # the broker keeps it for the worker
        match self._judgement(offer):
            case Place():
                return offers.withdraw
            case GiveUp(why):
                return partial(offers.give_up, why=why)
            case Wait(workers):
                self._ask(workers, now)
        return None

    def why(self, offer: Offer) -> str:
        """Return for what an offer waits, in words."""
        if offer.task.idempotent:
            return "it was published to workers, and none has accepted it yet"
        judgement = self._judgement(offer)
        who = ", ".join(judgement.workers) if isinstance(judgement, Wait) else "a worker"
        return f"it may not run twice, and {who} may have it: waiting to hear"

    def _judgement(self, offer: Offer) -> Judgement:
        task = offer.task
        candidates = task.offered_to or {}
        known = [worker for worker in map(self._fleet.get, candidates) if worker]
        asked = {name: opening for name, (at, opening) in self._asked.items() if at >= offer.since_ms}
        return offers.judge(
            candidates,
            {worker.id: worker.synced for worker in known if worker.synced},
            asked,
            idempotent=task.idempotent,
            own_topic=task.pinned is not None,
        )

    def _ask(self, workers: tuple[str, ...], now: int) -> None:
        for worker in map(self._fleet.get, workers):
            if worker and worker.birth and self._may_be_asked(worker, now):
                self._asked[worker.id] = now, opening_of(worker.birth)
                self._wire.send(Control(worker.site, worker.id), encode(Renew()))

    def _may_be_asked(self, worker: Worker, now: int) -> bool:
        """Whether asking can help: what a worker has said already must be committed before it shows anything."""
        asked_at, _ = self._asked.get(worker.id, (None, None))
        is_time = asked_at is None or now - asked_at >= self._ask_every_ms
        return is_time and worker.place.online and not worker.by_http and worker.unsynced is None
