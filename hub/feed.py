"""Tells the rest of the hub what a transaction changed, once it is committed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hub.rules.task import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hub.store.cases import Change


class Feed:
    """Hands changes to whoever listens, in the order of the commits."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Sequence[Change]], None]] = []

    def listen(self, listener: Callable[[Sequence[Change]], None]) -> None:
        """Call `listener` with the changes of every transaction; it must be quick and must not raise."""
        self._listeners.append(listener)

    def publish(self, changes: Sequence[Change]) -> None:
        """Tell every listener."""
        if changes:
            for listener in self._listeners:
                listener(changes)


class Waiters:
    """Lets requests wait for the end of a task."""

    def __init__(self) -> None:
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Wake whoever waits for a task that has ended."""
        for change in changes:
            if change.after.state in ENDED:
                for event in self._events.get(change.after.id, ()):
                    event.set()

    @contextmanager
    def watch(self, task: str) -> Iterator[asyncio.Event]:
        """Hold an event that is set when the task ends; look at the task only after you hold it."""
        event = asyncio.Event()
        self._events[task].add(event)
        try:
            yield event
        finally:
            self._events[task].discard(event)
            if not self._events[task]:
                del self._events[task]
