"""Attempts that are held and do not run: they wait for a slot, for what they need, or behind another at their task."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edge_agent.rules.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_agent.abilities import Abilities
    from edge_agent.executors import Executor
    from edge_agent.executors.handler import Handler
    from edge_agent.rules.attempts import Held, Ref
    from edge_agent.unable import Unable


class Queue:
    """What waits.

    Args:
        executors: What runs, by kind.
        limited: Kinds of which only so many run at one time.
        abilities: What can run now.
        unable: Where attempts go that cannot run here at the moment.

    """

    def __init__(
        self,
        executors: Mapping[str, Executor],
        limited: Mapping[str, Handler],
        abilities: Abilities,
        unable: Unable,
    ) -> None:
        self._executors = executors
        self._limited = limited
        self._abilities = abilities
        self._unable = unable
        self._waiting = Waiting(limited)
        self._behind: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._behind) + len(self._unable)

    def put(self, held: Held) -> None:
        """Let an attempt wait for a slot, or for what it needs."""
        why = self._abilities.why_not(held.spec) if held.spec.kind in self._executors else None
        if why is None:
            self._waiting.add(held)
        else:
            self._unable.add(held, why, told=True)

    def put_behind(self, held: Held) -> None:
        """Let an attempt wait until an older one at its task has let go."""
        self._behind[held.ref.task] = held

    def follow(self, task: str) -> None:
        """Let the attempt wait for a slot that has waited behind another at its task, if one has."""
        held = self._behind.pop(task, None)
        if held is not None:
            self.put(held)

    def sort_anew(self) -> None:
        """Look anew at what each attempt can wait for."""
        for held in (*self._unable.clear(), *self._waiting.clear()):
            self.put(held)

    def next(self, running: Iterable[Held]) -> Held | None:
        """Take out the attempt that goes next beside those that run, if one may."""
        full = self._full_kinds(running)
        return self._waiting.pop(full) if self._waiting.is_ready(full) else None

    def remove(self, ref: Ref) -> Held | None:
        """Take one attempt out, wherever it waits."""
        behind = self._behind.get(ref.task)
        if behind is not None and behind.ref == ref:
            return self._behind.pop(ref.task)
        return self._waiting.remove(ref) or self._unable.remove(ref)

    def clear(self) -> list[Held]:
        """Take out all."""
        everything = [*self._waiting.clear(), *self._behind.values(), *self._unable.clear()]
        self._behind.clear()
        return everything

    def _full_kinds(self, running: Iterable[Held]) -> set[str]:
        """Return the kinds of which as many run as may, with the threads that could not be stopped."""
        if not self._limited:
            return set()
        count = Counter(held.spec.kind for held in running)
        return {kind for kind, one in self._limited.items() if count[kind] + one.left_behind >= (one.concurrency or 0)}
