"""Every worker that the hub knows, and at which site each of them is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.log import get_logger
from broker.messages import BUILT_IN_KINDS
from hub.rules.placement import Place
from hub.rules.reading import Source
from hub.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Set as AbstractSet

    from hub.rules.adoption import Witness

log = get_logger(__name__)


@dataclass(slots=True)
class Site:
    """The workers of a site, by name, and how many of them are there, as `Worker.is_there` has it.

    `is_cut`: it has a broker of its own, and the bridge from there says that it is down.
    """

    workers: dict[str, Worker] = field(default_factory=dict)
    there: int = 0
    is_cut: bool = False


class Fleet:
    """The workers, in memory. What is kept of them is `hub.attendance`'s, which also says who is there."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._sites: defaultdict[str, Site] = defaultdict(Site)
        self._kinds = set(BUILT_IN_KINDS)

    def __iter__(self) -> Iterator[Worker]:
        """Yield every worker that is known now, in no order."""
        return iter(list(self._workers.values()))

    def get(self, worker: str) -> Worker | None:
        """Return a worker that the hub knows."""
        return self._workers.get(worker)

    def all(self) -> list[Worker]:
        """Return every worker, by site and name."""
        return sorted(self._workers.values(), key=lambda worker: (worker.site, worker.id))

    def site(self, name: str) -> Site:
        """Return a site."""
        return self._sites[name]

    def places(self) -> list[Place]:
        """Return every worker as placement sees it."""
        return [worker.place for worker in self._workers.values()]

    def witnesses(self) -> list[Witness]:
        """Return every worker as adoption sees it."""
        return [worker.witness for worker in self._workers.values()]

    def kinds(self) -> AbstractSet[str]:
        """Return every kind that is built in, or that some worker, there or not, has ever offered."""
        return self._kinds

    def source(self, site: str, worker_id: str) -> Source:
        """Return what is needed to read a worker's events, as it is known at this moment."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return Source(site, worker_id, self._kinds)
        return Source(site, worker_id, self._kinds, worker.clocks, worker.birth)

    def add(self, worker_id: str, site: str) -> Worker:
        """Return a worker that was not known, and is not there yet."""
        place = Place(worker_id, site, online=False, slots=1, kinds=frozenset(), capabilities={})
        worker = self._workers[worker_id] = self._sites[site].workers[worker_id] = Worker(worker_id, site, place)
        return worker

    def speaker(self, worker_id: str, site: str, *, retained: bool) -> Worker | None:
        """Return the worker that speaks; None where that name is another's, at another site: who came last has it."""
        worker = self._workers.get(worker_id)
        if worker and worker.site != site:
            tell = log.info if retained else log.warning  # what it left behind where it once was is no surprise
            tell("worker_is_elsewhere", worker=worker.id, site=worker.site, ignored_site=site)
            return None
        return worker or self.add(worker_id, site)

    def at_home(self, worker_id: str, site: str) -> Worker:
        """Return a worker that says hello, at the site where it says so."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return self.add(worker_id, site)
        if worker.site != site:
            log.warning("worker_moved", worker=worker_id, from_site=worker.site, to_site=site)
            old, new = self._sites[worker.site], self._sites[site]
            old.there -= worker.is_there
            new.there += worker.is_there
            new.workers[worker_id] = old.workers.pop(worker_id)
            worker.site = site
        return worker

    def refresh(self, worker: Worker) -> None:
        """Let everybody see a worker as it is now."""
        worker.refresh_place()
        self._kinds |= worker.place.kinds
