"""What a handler has at hand while its task runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from broker.messages import FactObserved, TaskProgress
from broker.problems import explain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from pydantic import JsonValue

    from broker.messages import Event


class _Done:
    """What there is to wait for when a thing is done already, so that a handler may write `await` or not."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_DONE = _Done()


class Output(Protocol):
    """Where an attempt's output goes: `edge_agent.logs.Log`, or a test's."""

    def write(self, data: bytes) -> None:
        """Take output, from any thread; never block and never raise."""

    async def drained(self) -> None:
        """Return when there is room for more."""

    async def size(self) -> int:
        """Return how many bytes were taken, in earlier runs of the agent too."""


class TaskContext:
    """The task that a handler runs for. Its methods may be called from any thread.

    Attributes:
        task_id: The task's id.
        attempt: The number of this attempt: a fencing token, for what the handler writes elsewhere.
        timeout_seconds: The task's time limit, if it has one.
        outlives_agent: Set by an executor that has kept a handle: an agent that stops leaves its work alone, and takes
            it up at its next start.
        has_run_seconds: Set by an executor that takes work up: for how long it has run.
        result_so_far: Set by an executor: what is told as the result of work that is cut short by a time limit, say.

    """

    def __init__(
        self,
        task_id: str,
        attempt: int,
        *,
        report: Callable[[Event], None],
        clock: Callable[[], int],
        keep: Callable[[JsonValue], Awaitable[None]] | None = None,
        log: Output | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.timeout_seconds = timeout_seconds
        self._report = report
        self._clock = clock
        self._keep = keep
        self._log = log
        self._cancelled = threading.Event()
        self.outlives_agent = False
        self.has_run_seconds = 0.0
        self.result_so_far: Callable[[], JsonValue] | None = None
        self.is_left = False

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is over (cancelled, timed out): a handler in a thread should look now and then."""
        return self._cancelled.is_set()

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Say how far the task is, `fraction` from 0 to 1. It is done at once, whether awaited or not.

        Raises:
            ValueError: If `fraction` is out of its range.

        """
        ref = {"task": self.task_id, "attempt": self.attempt}
        self._tell("progress", TaskProgress, **ref, fraction=float(fraction), message=message)
        return _DONE

    def fact(self, subject: str, name: str, value: JsonValue, *, ttl_seconds: float | None = None) -> None:
        """Report what was observed: `ctx.fact("camera/front", "firmware", "2.1")`.

        Args:
            subject: What it is about, such as `host/nas-01`.
            name: Which of its properties.
            value: Any JSON.
            ttl_seconds: After how long it is stale.

        Raises:
            ValueError: If `value` is no JSON, or another one is empty or too long.

        """
        ttl = None if ttl_seconds is None else float(ttl_seconds)
        self._tell("fact", FactObserved, subject=subject, name=name, value=value, ttl_seconds=ttl)

    def output(self, data: bytes | str) -> None:
        r"""Write to the attempt's log, as a program does to its standard output: `ctx.output("3 of 7 done\n")`.

        The log is kept on the worker, up to a size, and shown by `GET /api/tasks/{id}/log`. It may lose its last second
        in a power cut. It is written in the background: this never blocks, and never raises for a disk that is full or
        too slow. What finds no room then is left out, and the log says so; `drained` waits for room.
        """
        if self._log is not None:
            self._log.write(data.encode("utf-8", "replace") if isinstance(data, str) else data)

    async def drained(self) -> None:
        """Wait until the log has room for more output: for who writes faster than a disk may be."""
        if self._log is not None:
            await self._log.drained()

    async def logged(self) -> int:
        """Return how many bytes of output the log has had, in earlier runs of the agent too."""
        return 0 if self._log is None else await self._log.size()

    async def keep(self, handle: JsonValue) -> None:
        """Keep what finds this attempt's work again if the agent dies; return when it is on the disk.

        It is for executors whose work outlives the agent, and comes back in `Executor.reattach`. The last one counts.
        """
        if self._keep is not None:
            await self._keep(handle)

    def _tell(self, what: str, kind: type[Event], **fields: Any) -> None:  # noqa: ANN401  an event's fields
        try:
            event = kind(at=self._clock(), **fields)
        except ValidationError as error:  # which says it in five lines, and names our own classes
            raise ValueError("; ".join(str(problem) for problem in explain(error, prefix=(what,)))) from None
        self._report(event)

    def cancel(self) -> None:
        """Let `cancelled` be true; the runner calls it."""
        self._cancelled.set()

    def leave(self) -> None:
        """Let `is_left` be true: the agent stops, and what runs outlives it."""
        self.is_left = True
