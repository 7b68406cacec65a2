"""Worker batches in: each is one transaction, and only then is there a receipt (DESIGN §5).

Replaying a batch any number of times changes nothing: what is at or under the mark is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.messages import (
    MAX_REJECTED_BYTES,
    Batch,
    Reply,
    TaskAccepted,
    TaskDeclined,
    TaskEvent,
    TaskFinished,
    TaskProgress,
    TaskRejected,
    TaskStarted,
    Via,
    digest,
)
from broker.problems import Problem, shown
from hub.rules import life
from hub.rules.admission import refusals
from hub.rules.task import Case, Drop, new_task
from hub.store import cases
from hub.store.reports import Rejection, add_rejections, add_reports, advance, committed_through

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection

    from broker.messages import AnyEvent, Event, Injected, ReplyTo
    from hub.store.cases import Change


@dataclass(slots=True)
class Committed:
    """What a batch changed: true once its transaction is committed.

    Attributes:
        through: The mark of the stream now. Below the batch's first event when earlier ones are missing.
        declined: The tasks that this worker declined.
        refused: What nobody at all can run, and where to say so.

    """

    through: int
    changes: list[Change] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)
    refused: list[tuple[ReplyTo, Reply]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Source:
    """Whose batch it is, and what the hub knows besides: the `kinds` that some worker runs."""

    site: str
    worker: str
    kinds: AbstractSet[str]


def apply_batch(connection: Connection, source: Source, batch: Batch, now: int) -> Committed:
    """Apply what is new in `batch`, in order, and move the mark of its stream."""
    through = committed_through(connection, source.worker, batch.stream)
    if batch.first > through + 1 or batch.last <= through:
        return Committed(through)
    fresh = batch.events[through + 1 - batch.first :]
    reading = _Reading(connection, source, now, fresh)
    for number, event in enumerate(fresh, start=through + 1):
        reading.take(number, event)
    reading.committed.through = batch.last
    reading.save(batch.stream)
    advance(connection, source.worker, batch.stream, batch.last)
    return reading.committed


class _Reading:
    """One batch as it is read: cases before and after, and what else there is to keep."""

    def __init__(self, connection: Connection, source: Source, now: int, events: tuple[AnyEvent, ...]) -> None:
        self._connection = connection
        self._site = source.site
        self._worker = source.worker
        self._kinds = source.kinds
        self._now = now
        self._before = cases.load(connection, {event.task for event in events if isinstance(event, TaskEvent)})
        self._after = dict(self._before)
        self._rejections: list[Rejection] = []
        self._reports: list[tuple[int, Event]] = []
        self.committed = Committed(0)

    def take(self, number: int, event: AnyEvent) -> None:
        """Apply one event."""
        if isinstance(event, TaskEvent):
            self._take_task_event(number, event)
        elif isinstance(event, TaskRejected):
            self._rejections.append(_rejection(event, self._site, self._worker))
        else:
            self._reports.append((number, event))

    def save(self, stream: str) -> None:
        """Write everything that was taken."""
        self.committed.changes = cases.save(self._connection, self._before, self._after)
        add_rejections(self._connection, self._rejections)
        add_reports(self._connection, self._worker, stream, self._reports)

    def _take_task_event(self, number: int, event: TaskEvent) -> None:
        injected: Injected | None = getattr(event, "injected", None)
        if injected and isinstance(event, TaskDeclined):
            problems = refusals(injected.spec, self._kinds)
            if problems:
                self._refuse(event, injected, problems)
                return
        case = self._after.get(event.task) or (self._born(event, injected) if injected else None)
        if case is None:
            self._reports.append(
                (number, event)
            )  # of a task that this database never held: kept, though nothing to apply it to
            return
        if injected and self._clashes(case, injected):
            self._refuse_clash(case, event, injected)
            return
        if life.is_refused(case, event, self._worker):
            return
        self._after[event.task], drops = self._verdict(case, event)
        self.committed.drops.extend(drops)
        if isinstance(event, TaskDeclined):
            self.committed.declined.append(event.task)

    def _verdict(self, case: Case, event: TaskEvent) -> life.Verdict:
        match event:
            case TaskAccepted():
                return life.on_accepted(case, event, self._worker)
            case TaskStarted():
                return life.on_started(case, event, self._worker)
            case TaskFinished():
                return life.on_finished(case, event, self._worker, self._now)
            case TaskDeclined():
                return life.on_declined(case, event, self._worker)
            case TaskProgress():
                return life.on_progress(case, event, self._worker)
        msg = f"no rule for {event!r}"
        raise AssertionError(msg)

    def _born(self, event: TaskEvent, injected: Injected) -> Case:
        pinned = self._worker if injected.via is not Via.SITE else None
        task = new_task(
            injected.spec,
            event.task,
            via=injected.via,
            site=self._site,
            pinned=pinned,
            now=event.at,
            reply=injected.reply,
        )
        return Case(task)

    def _clashes(self, case: Case, injected: Injected) -> bool:
        pinned = self._worker if injected.via is not Via.SITE else None
        return case.task.digest != digest(injected.spec, self._site, pinned)

    def _refuse(self, event: TaskEvent, injected: Injected, problems: list[Problem]) -> None:
        """Reject a task that its worker declined and that no worker at all can run."""
        reason = "; ".join(map(str, problems))
        self._reject(event.task, injected, reason, problems)
        if injected.reply:
            self.committed.refused.append((injected.reply, Reply(task=event.task, outcome="rejected", error=reason)))

    def _reject(self, task: str, injected: Injected, reason: str, problems: list[Problem]) -> None:
        payload = injected.spec.model_dump_json(by_alias=True, exclude_none=True)[:MAX_REJECTED_BYTES]
        topic = f"{injected.via.value} tasks of {self._site}"
        self._rejections.append(Rejection(self._now, topic, self._site, self._worker, task, reason, problems, payload))

    def _refuse_clash(self, case: Case, event: TaskEvent, injected: Injected) -> None:
        """Keep a task whose id is another's out of that one's life; the worker is told to stop it."""
        problem = Problem("id", shown(event.task), "an id that no other task has")
        self._reject(event.task, injected, f"clashing id: {problem}", [problem])
        self._after[event.task] = life.refuse(case, event.attempt, self._worker, "clashing id")
        self.committed.drops.append(Drop(self._worker, event.task, event.attempt, "clashing id"))


def _rejection(event: TaskRejected, site: str, worker: str) -> Rejection:
    problems = [Problem(problem.field, problem.value, problem.expected) for problem in event.problems]
    return Rejection(event.at, event.topic, site, worker, event.task, event.reason, problems, event.payload)
