"""The containers of this worker: how they are marked, and how those go that nobody holds any more.

One worker touches only what bears its own name and the path of its own offline directory: several share an engine.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from broker.log import get_logger
from edge_agent.errors import EngineGone, EngineRefused
from edge_agent.rules.attempts import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_agent.engine.engine import Engine

WORKER = "holdfast.worker"
HOME = "holdfast.home"
TASK = "holdfast.task"
ATTEMPT = "holdfast.attempt"

log = get_logger(__name__)


class Owned:
    """Knows which container belongs to which attempt, and removes them.

    Args:
        engine: Where they are.
        home: The path of the offline directory.
        name: What this worker is called, once that is known.

    """

    def __init__(self, engine: Engine, home: str, *, name: Callable[[], str]) -> None:
        self._engine = engine
        self._home = home
        self._name = name
        self._names: dict[Ref, str] = {}
        self._removing: set[asyncio.Task[None]] = set()

    @property
    def worker(self) -> str:
        """What this worker is called."""
        return self._name()

    @property
    def labels(self) -> dict[str, str]:
        """What every container of this worker has."""
        return {WORKER: self._name(), HOME: self._home}

    def labels_of(self, ref: Ref) -> dict[str, str]:
        """Return what the container of an attempt has."""
        return {**self.labels, TASK: ref.task, ATTEMPT: str(ref.attempt)}

    def add(self, ref: Ref, name: str) -> None:
        """Note the container of an attempt: it stays until that is let go."""
        self._names[ref] = name

    def forget(self, ref: Ref) -> None:
        """Note none any more: if there is one all the same, it goes with the next sweep."""
        self._names.pop(ref, None)

    def clear(self) -> None:
        """Forget all: the agent begins anew, with another database."""
        self._names.clear()

    def let_go(self, ref: Ref) -> None:
        """Remove the container of an attempt, now or as soon as the engine answers: its end is committed."""
        name = self._names.pop(ref, None)
        if name is not None and not self._engine.is_closed:
            task = asyncio.create_task(self._remove(name), name=f"remove-{name}")
            self._removing.add(task)
            task.add_done_callback(self._removing.discard)

    async def sweep(self) -> None:
        """Remove every container of this worker that no attempt has."""
        try:
            found = await self._engine.call(lambda client: client.find(self.labels))
        except (EngineGone, EngineRefused) as error:
            log.warning("containers_not_swept", reason=error.reason)
            return
        for name, ref in map(_read, found):
            if self._names.get(ref) != name:
                log.warning("container_left_over_removed", name=name, task=ref.task, attempt=ref.attempt)
                await self._remove(name)

    async def _remove(self, name: str) -> None:
        try:
            await self._engine.call(lambda client: client.remove(name))
        except (EngineGone, EngineRefused) as error:  # the next sweep finds it
            log.warning("container_not_removed", name=name, reason=error.reason)


def _read(found: Mapping[str, Any]) -> tuple[str, Ref]:
    labels = found["Labels"]
    attempt = labels.get(ATTEMPT, "")
    names = found["Names"] or [found["Id"]]  # one that is being removed may have no name any more
    return names[0].lstrip("/"), Ref(labels.get(TASK, ""), int(attempt) if attempt.isdecimal() else 0)
