"""The schedules that workers fire by themselves: kept here, and pushed to each worker that they concern (decision 11).

A worker has all of its jobs or, after a change, none of the new ones yet: its hello says the revision of what it has.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

from broker.clock import now_ms
from broker.errors import InvalidInput
from broker.log import get_logger
from broker.messages import MAX_SET_BYTES, NO_REVISION, encode
from broker.problems import Problem
from broker.topics import Control
from hub.errors import NotFound
from hub.rules.schedules import Schedule, concerning, order_of, whom_it_may_concern
from hub.store.audit import write
from hub.store.schedules import delete_schedule, save_schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from broker.messages import ScheduleJob
    from hub.fleet import Fleet
    from hub.rules.callers import Caller
    from hub.store.ledger import Ledger
    from hub.wire import Wire
    from hub.worker import Worker

log = get_logger(__name__)


class _Order(NamedTuple):
    """All that a worker is to fire by itself, as it is told."""

    revision: str
    payload: bytes
    jobs: int

    @classmethod
    def of(cls, schedules: Sequence[Schedule]) -> Self:
        order = order_of(schedules)
        return cls(order.revision, encode(order), len(order.jobs))


class Schedules:
    """Keeps schedules, and sees that workers have them.

    Args:
        ledger: Commits what changes.
        fleet: Whom it may concern.
        wire: Carries it to them.

    """

    def __init__(self, ledger: Ledger, fleet: Fleet, wire: Wire) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._wire = wire
        self._schedules: dict[str, Schedule] = {}
        self._orders: dict[tuple[str, ...], _Order] = {}
        self._revisions: dict[tuple[str, str], str] = {}

    def load(self, schedules: Iterable[Schedule]) -> None:
        """Take up what an earlier hub knew."""
        self._schedules = {one.name: one for one in schedules}

    def all(self) -> list[Schedule]:
        """Return every schedule, by name."""
        return sorted(self._schedules.values(), key=lambda one: one.name)

    def get(self, name: str) -> Schedule:
        """Return one schedule. Raises `NotFound`."""
        try:
            return self._schedules[name]
        except KeyError:
            raise NotFound("name", name) from None

    def concerned(self, schedule: Schedule) -> list[Worker]:
        """Return the workers that are to have a schedule, by site and name."""
        if schedule.worker is not None:
            found = self._fleet.get(schedule.worker)
            workers = [found] if found else []
        elif schedule.site is not None:
            workers = list(self._fleet.site(schedule.site).workers.values())
        else:
            workers = list(self._fleet)
        return sorted(
            (worker for worker in workers if schedule.concerns(worker.id, worker.site)),
            key=lambda worker: (worker.site, worker.id),
        )

    def is_taken(self, worker: Worker) -> bool:
        """Tell whether a worker has said that it has all that it is to have."""
        key = (worker.id, worker.site)
        if key not in self._revisions:
            self._revisions[key] = self._order(worker).revision
        return _has(worker) == self._revisions[key]

    async def put(self, job: ScheduleJob, site: str | None, worker: str | None, by: Caller) -> bool:
        """Have a schedule from now on, in the place of one of its name; tell whether it is new.

        Returns after the commit.

        Raises:
            InvalidInput: If there is more for some worker then than a message carries.

        """
        now, known = now_ms(), self._schedules.get(job.name)
        one = Schedule(job, site, worker, known.created_ms if known else now, now)
        if known and known.is_as(one):
            return False
        self._refuse_too_much(one)
        await self._ledger.commit(partial(_save, one=one, by=by))
        self._schedules[one.name] = one
        log.info("schedule_put", schedule=one.name, site=site, worker=worker, by=by.who)
        self._push_all()
        return known is None

    async def delete(self, name: str, by: Caller) -> None:
        """Have a schedule no more; return after the commit. Raises `NotFound`."""
        self.get(name)
        await self._ledger.commit(partial(_delete, name=name, by=by))
        self._schedules.pop(name, None)
        log.info("schedule_deleted", schedule=name, by=by.who)
        self._push_all()

    def on_hello(self, worker: Worker) -> None:
        """Push to a worker that has said hello what it does not have yet."""
        if self.is_taken(worker):
            return
        order, size = self._order(worker), len(self._order(worker).payload)
        if size > MAX_SET_BYTES:
            log.error("schedules_too_large", worker=worker.id, bytes=size, expected=f"at most {MAX_SET_BYTES}")
            return
        log.info("schedules_pushed", worker=worker.id, revision=order.revision, jobs=order.jobs)
        self._wire.send(Control(worker.site, worker.id), order.payload)

    def _push_all(self) -> None:
        self._orders.clear()
        self._revisions.clear()
        for worker in self._fleet:
            if worker.is_there and worker.birth:
                self.on_hello(worker)

    def _order(self, worker: Worker) -> _Order:
        """Return what a worker is to have, which is made once for all that are to have the same."""
        schedules = concerning(self._schedules.values(), worker.id, worker.site)
        names = tuple(one.name for one in schedules)
        if names not in self._orders:
            self._orders[names] = _Order.of(schedules)
        return self._orders[names]

    def _refuse_too_much(self, one: Schedule) -> None:
        schedules = {**self._schedules, one.name: one}.values()
        known = {(worker.id, worker.site) for worker in self.concerned(one)}
        judged: set[tuple[str, ...]] = set()
        for worker, site in sorted(known | whom_it_may_concern(one, schedules), reverse=True):
            together = concerning(schedules, worker, site)
            names = tuple(other.name for other in together)
            if names in judged:
                continue
            judged.add(names)
            size = len(_Order.of(together).payload)
            if size > MAX_SET_BYTES:
                value = f"too much: {size} bytes for {worker or (f'a worker of {site}' if site else 'a worker')}"
                raise InvalidInput([Problem("body", value, f"at most {MAX_SET_BYTES} in all")])


def _save(connection: Connection, one: Schedule, by: Caller) -> None:
    save_schedule(connection, one)
    write(connection, by.did("schedule.put", one.name, one.worker or one.site or "everywhere"))


def _delete(connection: Connection, name: str, by: Caller) -> None:
    delete_schedule(connection, name)
    write(connection, by.did("schedule.deleted", name))


def _has(worker: Worker) -> str:
    return worker.birth.schedules if worker.birth else NO_REVISION
