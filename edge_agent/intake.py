"""Takes tasks in: what a message holds is decided, committed, and only then acknowledged."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from broker.clock import new_id, now_ms
from broker.log import get_logger
from edge_agent.errors import StorageClosed, StorageError
from edge_agent.rules import admission
from edge_agent.rules.admission import Decline, Host, Reject, Take
from edge_agent.store import inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from broker.messages import Assignment, TaskRequest
    from edge_agent.abilities import Abilities
    from edge_agent.answers import Answers
    from edge_agent.rules.admission import Message, Verdict
    from edge_agent.runner import Runner
    from edge_agent.store.database import Database, Transaction
    from edge_agent.store.journal import Journal

    Also = Callable[[Transaction, Verdict], None]
    """What is written with a verdict, in the same transaction."""

QUEUED_PER_SLOT = 64
"""How long the queue of a worker may grow, for each slot, before a hub may as well give the site's tasks to another."""

RETRY_SECONDS = 1.0
"""How often a disk that takes nothing is asked again."""

log = get_logger(__name__)


class Firing(NamedTuple):
    """A task that is due, of one of the worker's own jobs; `worth_seconds` is how long it is worth beginning."""

    request: TaskRequest
    job: str
    worth_seconds: float | None


class Intake:
    """Decides about tasks and commits what was decided, with its report, in one transaction."""

    def __init__(
        self,
        *,
        database: Database,
        journal: Journal,
        runner: Runner,
        answers: Answers,
        abilities: Abilities,
        hub_is_there: Callable[[], bool],
    ) -> None:
        self._database = database
        self._journal = journal
        self._runner = runner
        self._answers = answers
        self._abilities = abilities
        self._hub_is_there = hub_is_there

    async def take(self, message: Message) -> None:
        """Take in one message of a tasks topic; return after the commit, when it may be acknowledged.

        What came first is submitted first, before this waits for anything. Raises `StorageClosed`.
        """
        await self._commit(admission.examine(message, self._host(), new_id), message)

    async def take_assigned(self, assignments: Sequence[Assignment]) -> None:
        """Take in what a sync says that this worker should hold."""
        if assignments:
            await self._commit(admission.assigned(assignments, self._host(), now_ms()), None)

    async def fire(self, firing: Firing, also: Also) -> Verdict:
        """Take a firing of one of the worker's own jobs; return after the commit, with what was decided."""
        return (await self._commit([admission.fired(*firing, self._host(), now_ms())], None, also))[0]

    def _host(self) -> Host:
        abilities = self._abilities
        if not self._hub_is_there():  # nobody could place elsewhere what has no room, or what is not to be had just now
            return Host(abilities.usual_kinds, abilities.usual_capabilities, abilities.usual_lacking)
        room = self._runner.queued < self._runner.slots * QUEUED_PER_SLOT
        return Host(abilities.kinds, abilities.capabilities, abilities.lacking, has_room=room)

    async def settled(self) -> None:
        """Return when all that was ever taken is committed, or its commit has failed."""
        await self._database.read(lambda _: None)  # the database works in order

    async def _commit(
        self, verdicts: list[Verdict], message: Message | None, also: Also | None = None
    ) -> list[Verdict]:
        """Commit, however long the disk takes nothing: until then the message is not acknowledged."""
        write = partial(self._write, verdicts=verdicts, message=message, also=also)
        while True:
            try:
                final = await self._database.commit(write, durable=True)
            except StorageClosed:
                raise
            except StorageError:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        for verdict in final:
            _tell(verdict)
        return final

    def _write(
        self,
        transaction: Transaction,
        verdicts: list[Verdict],
        message: Message | None,
        also: Also | None,
    ) -> list[Verdict]:
        names = {verdict.held.ref.task for verdict in verdicts if isinstance(verdict, Take)}
        final = admission.recall(verdicts, inbox.known(transaction, names), message)
        self._journal.append(
            transaction, [verdict.event for verdict in final if isinstance(verdict, Take | Decline | Reject)]
        )
        taken = [verdict for verdict in final if isinstance(verdict, Take)]
        self._hold(transaction, taken)
        if message and message.reply:
            for verdict in final:
                if isinstance(verdict, Reject):
                    self._answers.add(transaction, message.reply, verdict.reply)
        if also:
            for verdict in final:
                also(transaction, verdict)
        return final

    def _hold(self, transaction: Transaction, taken: Iterable[Take]) -> None:
        held = [one.held for one in taken if one.ending is None]
        inbox.hold(transaction, held)
        ended = [(one.held, one.ending) for one in taken if one.ending is not None]
        self._runner.write_ends(transaction, ended)
        transaction.after_commit(partial(self._runner.submit, held))


def _tell(verdict: Verdict) -> None:
    match verdict:
        case Reject():
            log.warning("task_rejected", task=verdict.event.task, reason=verdict.event.reason)
        case Decline():
            log.info("task_declined", task=verdict.event.task, reason=verdict.event.reason)
        case Take():
            log.debug("task_accepted", task=verdict.held.ref.task, kind=verdict.held.spec.kind)
