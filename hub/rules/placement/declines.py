"""Who has declined what: a task is not offered again to a session that declined it."""

from __future__ import annotations

from collections import defaultdict

_NOBODY: frozenset[str] = frozenset()


class Declines:
    """What each worker has declined, and in which session: the next one may take it."""

    def __init__(self) -> None:
        self._by_task: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._by_worker: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._sessions: dict[str, str] = {}

    def add(self, task: str, worker: str, session: str) -> None:
        """Note that a worker has declined a task."""
        self._by_task[task][worker] = session
        self._by_worker[worker][task] = None

    def meet(self, worker: str, session: str) -> list[str]:
        """Note the session that a worker has now; return the tasks of which that may change who is kept from them."""
        if self._sessions.get(worker) == session:
            return []
        self._sessions[worker] = session
        return list(self._by_worker.get(worker, ()))

    def kept_from(self, task: str) -> frozenset[str]:
        """Return the workers that a task must not go to."""
        declined = self._by_task.get(task)
        if declined is None:
            return _NOBODY
        return frozenset(worker for worker, session in declined.items() if self._sessions.get(worker) == session)

    def forget(self, task: str) -> None:
        """Forget a task that has ended."""
        for worker in self._by_task.pop(task, ()):
            self._by_worker[worker].pop(task, None)
            if not self._by_worker[worker]:
                del self._by_worker[worker]
