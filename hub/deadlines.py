"""What becomes of tasks whose time is up: not accepted, not begun, or in the hands of somebody who is lost."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hub.rules import life
from hub.rules.presence import SUSPECT_AFTER_INTERVALS
from hub.store import tasks as store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from hub.courier import Courier
    from hub.decisions import Decisions
    from hub.fleet import Fleet
    from hub.hearing import Hearing
    from hub.holdings import Holdings
    from hub.offering import Offering
    from hub.rules.leases import Lease
    from hub.rules.task import Task
    from hub.rules.waiting import Due, Waiting
    from hub.store.cases import Change

MAX_SENDS = 6
"""How often an attempt that may not run twice is sent in vain to a worker that is there."""


class Deadlines:
    """Looks after what has fallen due.

    Args:
        fleet: The workers.
        waiting: What falls due.
        hearing: Whom the hub could have heard.
        holdings: Who has lost what.
        offering: Judges offers.
        decisions: Carries out what is decided.
        courier: Sends again what must be.
        accept_timeout_ms: How soon a worker must accept what it was sent.
        why: Says why a task waits.
        on_backlog: Called when tasks have come to the backlog.

    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        waiting: Waiting,
        hearing: Hearing,
        holdings: Holdings,
        offering: Offering,
        decisions: Decisions,
        courier: Courier,
        accept_timeout_ms: int,
        why: Callable[[Task], str | None],
        on_backlog: Callable[[], None],
    ) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._hearing = hearing
        self._holdings = holdings
        self._offering = offering
        self._decisions = decisions
        self._courier = courier
        self._accept_timeout_ms = accept_timeout_ms
        self._why = why
        self._on_backlog = on_backlog

    async def look(self, now: int) -> None:
        """Do what has fallen due."""
        due = self._waiting.due(now)
        due.unaccepted = [lease for lease in due.unaccepted if not self._is_postponed(lease)]
        if due.tried_again:
            self._on_backlog()
        rules = self._rules(due, now)
        if rules:
            await self._decisions.carry_out(partial(_move, rules=rules), list(rules))
        await self._send_again(due)
        await self._resume()

    def _rules(self, due: Due, now: int) -> dict[str, life.Rule]:
        """Return what becomes of each task that has fallen due."""
        rules: dict[str, life.Rule] = {
            task.id: partial(life.on_expired, now=now, why=self._why(task)) for task in due.expired
        }
        rules |= self._rules_of_offers(due, now)
        for lease in due.unaccepted:
            if self._hearing.hears(lease.worker):
                rules[lease.task] = self._rule_of_unaccepted(lease, now)
        for lease, why in self._holdings.take_lost(now):
            rules[lease.task] = partial(life.on_lost, number=lease.attempt, why=why, now=now)
        return rules

    def _is_postponed(self, lease: Lease) -> bool:
        """Give a worker that has a history to tell first the time to name in a heartbeat what it accepted."""
        worker = self._fleet.get(lease.worker)
        if worker is None or worker.unsynced is None:
            return False
        named_within_ms = worker.presence.interval_ms * SUSPECT_AFTER_INTERVALS
        if lease.postponed * self._accept_timeout_ms > named_within_ms:
            return False
        self._waiting.leases.postpone(lease.task)
        return True

    def _rules_of_offers(self, due: Due, now: int) -> dict[str, life.Rule]:
        if not self._hearing.hears_the_broker():  # nobody could have told: what fell due is given as long again
            return {}
        judged = {offer.task.id: self._offering.judge(offer, now) for offer in due.offers}
        return {task: rule for task, rule in judged.items() if rule}

    def _rule_of_unaccepted(self, lease: Lease, now: int) -> life.Rule:
        if lease.sends >= MAX_SENDS:
            times = f"{lease.worker} was sent it {lease.sends + 1} times"
            why = f"{times} and did not accept it: it may have ended it before"
            return partial(life.on_lost, number=lease.attempt, why=why, now=now)
        waited = f"did not accept it in {self._accept_timeout_ms / 1000:g} s"
        return partial(life.on_unaccepted, number=lease.attempt, why=f"{lease.worker} {waited}", now=now)

    async def _send_again(self, due: Due) -> None:
        """Send what may not run twice once more as it was: it may run already, and only the same attempt is safe."""
        again = [lease.task for lease in due.unaccepted if not lease.idempotent and self._may_take(lease.worker)]
        if again:
            self._courier.send(await self._decisions.look_up(partial(store.again, ids=again)))
            self._waiting.leases.sent_again(again)

    async def _resume(self) -> None:
        """Send workers that came back what they had not taken before they went."""
        for worker in self._holdings.take_returned():
            sent = await self._decisions.carry_out(partial(store.resume, worker=worker), [])
            if sent is None:
                self._holdings.put_returned(worker)
            else:
                self._courier.send(sent)

    def _may_take(self, worker_id: str) -> bool:
        worker = self._fleet.get(worker_id)
        return worker is not None and worker.place.online and not worker.place.storage_full


def _move(connection: Connection, rules: Mapping[str, life.Rule]) -> tuple[list[Change], int]:
    changes = store.move(connection, rules)
    return changes, len(changes)
