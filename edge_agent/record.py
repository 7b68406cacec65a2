"""What becomes of attempts, on its way to the disk: begin marks, handles and ends, with their reports and answers.

What is told in one turn of the event loop is one piece of work for the database. An attempt that begins and ends within
one turn costs the inbox no mark at all. While the disk takes nothing, everything waits here, in its order.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import now_ms
from broker.log import get_logger
from broker.messages import TaskStarted
from edge_agent.errors import StorageClosed, StorageError
from edge_agent.rules import endings
from edge_agent.store import inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pydantic import JsonValue

    from edge_agent.answers import Answers
    from edge_agent.rules.attempts import Ending, Held, Ref
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.journal import Journal

RETRY_SECONDS = 1.0
"""How often a disk that takes nothing is asked again."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Page:
    """What is stored in one piece of work."""

    begun: list[tuple[Held, int]] = field(default_factory=list)
    kept: list[tuple[Ref, JsonValue]] = field(default_factory=list)
    ended: list[tuple[Held, Ending]] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class Record:
    """Writes down what becomes of attempts.

    Args:
        database: Where it is committed,
        journal: in one transaction with its report,
        answers: and with the answer to who asked.
        on_ended: Told of each attempt whose end is committed.

    Attributes:
        error: What went wrong where that is a fault of ours, and not the disk's.
        broken: Set when there is an `error`.

    """

    def __init__(
        self, *, database: Database, journal: Journal, answers: Answers, on_ended: Callable[[Held], None]
    ) -> None:
        self._database = database
        self._journal = journal
        self._answers = answers
        self._on_ended = on_ended
        self._page = _Page()
        self._has_flush = False
        self._refused: list[_Page] = []
        self._trying: tuple[_Page, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self.error: BaseException | None = None
        self.broken = asyncio.Event()

    @property
    def is_refused(self) -> bool:
        """Whether the disk does not take what is told here."""
        return bool(self._refused) or self._database.full

    def begun(self, held: Held, at: int) -> None:
        """Note that an attempt begins, some time soon: a crash before that lets it begin again."""
        self._page.begun.append((held, at))
        self._flush_soon()

    async def begin(self, held: Held, at: int) -> None:
        """Note that an attempt begins; return when that is on the disk. Raises `StorageClosed`."""
        self.begun(held, at)
        await self._stored()

    async def keep(self, ref: Ref, handle: JsonValue) -> None:
        """Keep what finds an attempt again after a crash; return when it is on the disk. Raises `StorageClosed`."""
        self._page.kept.append((ref, handle))
        self._flush_soon()
        await self._stored()

    def ended(self, held: Held, ending: Ending) -> None:
        """Note that an attempt has ended; `on_ended` hears when that is committed."""
        self._page.ended.append((held, ending))
        self._flush_soon()

    def write_ends(self, transaction: Transaction, ends: Iterable[tuple[Held, Ending]]) -> None:
        """Write the end of attempts to inbox and journal, and what is answered, within `transaction`."""
        ends = list(ends)
        if not ends:
            return
        at = now_ms()
        inbox.end(transaction, [held for held, _ in ends], at)
        events = [endings.finished(held, ending, at) for held, ending in ends]
        for (held, ending), event in zip(ends, events, strict=True):
            if held.reply and endings.is_last(held, ending):
                self._answers.add(transaction, held.reply, endings.reply(event))
        self._journal.append(transaction, events)

    # -- to the disk -------------------------------------------------------------------------------------------------

    async def _stored(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._page.waiters.append(waiter)
        await waiter

    def _flush_soon(self) -> None:
        if not self._has_flush:
            self._has_flush = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._has_flush = False
        page, self._page = self._page, _Page()
        if self._refused:
            self._refused.append(page)  # behind what was told before it
        else:
            self._submit([page])

    def _submit(self, pages: Sequence[_Page]) -> None:
        durable = any(page.waiters for page in pages)
        try:
            future = self._database.submit(partial(self._write, pages=pages), durable=durable)
        except StorageClosed as error:
            _fail(pages, error)
        else:
            future.add_done_callback(partial(self._on_done, pages))

    def _on_done(self, pages: Sequence[_Page], future: asyncio.Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._on_stored(pages)
        elif isinstance(error, StorageClosed):
            _fail(pages, error)
        elif isinstance(error, StorageError):
            self._keep_for_later(pages, error)
        else:
            self.error = error
            self.broken.set()
            _fail(pages, error)

    def _on_stored(self, pages: Sequence[_Page]) -> None:
        for page in pages:
            for held, ending in page.ended:
                log.debug("task_ended", task=held.ref.task, attempt=held.ref.attempt, outcome=ending.outcome.value)
                self._on_ended(held)
            _tell(page.waiters)
        if pages is self._trying:
            self._trying = ()
            del self._refused[: len(pages)]
            self._try_again()

    def _keep_for_later(self, pages: Sequence[_Page], error: StorageError) -> None:
        if not self._refused:
            log.error("not_stored", reason=error.reason, next_try_seconds=RETRY_SECONDS)
        if pages is self._trying:
            self._trying = ()
        else:
            self._refused += pages
        if self._timer is None and not self._trying:
            self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        self._trying = tuple(self._refused[:1])  # all of them may be more than a disk that was full can take at once
        if self._trying:
            self._submit(self._trying)

    # -- in the writer's thread --------------------------------------------------------------------------------------

    def _write(self, transaction: Transaction, pages: Sequence[_Page]) -> None:
        begun = [one for page in pages for one in page.begun]
        ends = [one for page in pages for one in page.ended]
        ended = {held.ref for held, _ in ends}
        marks = [held.ref for held, _ in begun if held.ref not in ended]
        if marks:
            inbox.mark_running(transaction, marks)
        for ref, handle in (one for page in pages for one in page.kept):
            if ref not in ended:
                inbox.keep(transaction, ref, handle)
        started = [TaskStarted(at=at, task=held.ref.task, attempt=held.ref.attempt) for held, at in begun]
        self._journal.append(transaction, started)
        self.write_ends(transaction, ends)


def _tell(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():  # who was cancelled waits no more
            waiter.set_result(None)


def _fail(pages: Iterable[_Page], error: BaseException) -> None:
    for page in pages:
        for waiter in page.waiters:
            if not waiter.done():
                waiter.set_exception(error)
