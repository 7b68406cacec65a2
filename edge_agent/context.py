"""What a handler has at hand while its task runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from broker.messages import FactObserved, TaskProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from pydantic import JsonValue

    from broker.messages import Event


class _Done:
    """What there is to wait for when a thing is done already, so that a handler may write `await` or not."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_DONE = _Done()


class TaskContext:
    """The task that a handler runs for. Its methods may be called from any thread.

    Attributes:
        task_id: The task's id.
        attempt: The number of this attempt: a fencing token, for what the handler writes elsewhere.

    """

    def __init__(
        self,
        task_id: str,
        attempt: int,
        *,
        report: Callable[[Event], None],
        clock: Callable[[], int],
        keep: Callable[[JsonValue], Awaitable[None]] | None = None,
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self._report = report
        self._clock = clock
        self._keep = keep
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is over (cancelled, timed out): a handler in a thread should look now and then."""
        return self._cancelled.is_set()

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Say how far the task is, `fraction` from 0 to 1. It is done at once, whether awaited or not.

        Raises:
            pydantic.ValidationError: If `fraction` is out of its range.

        """
        self._report(
            TaskProgress(
                at=self._clock(),
                task=self.task_id,
                attempt=self.attempt,
                fraction=float(fraction),
                message=message,
            )
        )
        return _DONE

    def fact(self, subject: str, name: str, value: JsonValue, *, ttl_seconds: float | None = None) -> None:
        """Report what was observed: `ctx.fact("camera/front", "firmware", "2.1")`.

        Args:
            subject: What it is about, such as `host/nas-01`.
            name: Which of its properties.
            value: Any JSON.
            ttl_seconds: After how long it is stale.

        """
        ttl = None if ttl_seconds is None else float(ttl_seconds)
        self._report(FactObserved(at=self._clock(), subject=subject, name=name, value=value, ttl_seconds=ttl))

    async def keep(self, handle: JsonValue) -> None:
        """Keep what finds this attempt's work again if the agent dies; return when it is on the disk.

        It is for executors whose work outlives the agent, and comes back in `Executor.reattach`. The last one counts.
        """
        if self._keep is not None:
            await self._keep(handle)

    def cancel(self) -> None:
        """Let `cancelled` be true; the runner calls it."""
        self._cancelled.set()
