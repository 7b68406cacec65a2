"""What a worker's events make of the cases that they are about: the part of ingest that decides (DESIGN §5).

It needs no database, so a model can run it: it is given the cases of the tasks in the events, and returns them as they
are then, with what else there is to keep and to tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.messages import (
    MAX_REJECTED_BYTES,
    Gap,
    Reply,
    TaskAccepted,
    TaskDeclined,
    TaskEvent,
    TaskFinished,
    TaskProgress,
    TaskRejected,
    TaskStarted,
    Via,
    WorkerStarted,
    digest,
)
from broker.messages.base import MAX_MILLISECONDS
from broker.problems import Problem, shown
from hub.rules import life, offers
from hub.rules.admission import refusals
from hub.rules.children import is_parent, on_told
from hub.rules.clocks import correct
from hub.rules.kept import Rejection, Report
from hub.rules.task import ENDED, Case, Drop, new_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set as AbstractSet

    from broker.messages import AnyEvent, Birth, Injected, ReplyTo
    from hub.rules.clocks import Clocks
    from hub.rules.task import Attempt


@dataclass(frozen=True, slots=True)
class Source:
    """Whose events they are, and what the hub knows besides.

    Attributes:
        kinds: What some worker runs.
        clocks: What is known of this worker's clocks.
        birth: Its last hello: what its journal holds behind that is by that boot's clock.

    """

    site: str
    worker: str
    kinds: AbstractSet[str]
    clocks: Clocks = field(default_factory=dict)
    birth: Birth | None = None

    def boot_after(self, stream: str, mark: int, boot: str | None) -> str | None:
        """Return whose clock counts behind a mark, of which the stream itself has told `boot`."""
        hello = self.birth
        if boot is None and hello and hello.journal.stream == stream and mark >= hello.journal.newest:
            return hello.boot
        return boot

    def is_behind_hello(self, stream: str, number: int) -> bool:
        """Tell whether the worker wrote an event after it said its last hello, so that it is of that session."""
        return self.birth is not None and stream == self.birth.journal.stream and number > self.birth.journal.newest


@dataclass(slots=True)
class Reading:
    """What some events came to.

    Attributes:
        cases: The cases of their tasks, as they are then.
        boot: Whose clock counts behind the last of them.
        drops: Attempts that workers must not go on with.
        declined: The tasks that this worker cannot run, each with the number of the event that says so.
        refused: What nobody at all can run, and where to say so.

    """

    cases: dict[str, Case]
    boot: str | None
    drops: list[Drop] = field(default_factory=list)
    declined: list[tuple[int, str]] = field(default_factory=list)
    refused: list[tuple[ReplyTo, Reply]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)


def tasks_of(events: Iterable[tuple[int, AnyEvent]]) -> set[str]:
    """Return the tasks whose cases `read` must be given, where they exist.

    Where events were dropped (`hub.rules.offers.hides_tasks`), it must have those that the worker was offered, too.
    """
    return {event.task for _, event in events if isinstance(event, TaskEvent)}


def read(
    events: Iterable[tuple[int, AnyEvent]], source: Source, cases: Mapping[str, Case], boot: str | None, now: int
) -> Reading:
    """Apply numbered events in order.

    Args:
        events: What is new of a stream.
        source: Whose it is.
        cases: Those of `tasks_of` that exist. They are not changed.
        boot: Whose clock counted before the first of them.
        now: Milliseconds, by the hub's clock.

    """
    reader = _Reader(source, Reading(dict(cases), boot), now)
    for number, event in events:
        reader.take(number, event)
    return reader.reading


class _Reader:
    def __init__(self, source: Source, reading: Reading, now: int) -> None:
        self._site = source.site
        self._worker = source.worker
        self._kinds = source.kinds
        self._clocks = source.clocks
        self._now = now
        self.reading = reading

    def take(self, number: int, told: AnyEvent) -> None:
        if isinstance(told, WorkerStarted):
            self.reading.boot = told.boot
        at, error_ms = correct(told.at, self._clocks, self.reading.boot)
        event = told if at == told.at else _moved(told, at - told.at)
        if isinstance(event, TaskEvent):
            self._take_task_event(number, event, error_ms)
        elif isinstance(event, TaskRejected):
            self.reading.rejections.append(_rejection(event, self._site, self._worker))
        else:
            self.reading.reports.append(Report(number, event, error_ms))
            if offers.hides_tasks([(number, event)]):
                hidden = {task: offers.on_hidden(case, self._worker) for task, case in self.reading.cases.items()}
                self.reading.cases.update(hidden)

    def _take_task_event(self, number: int, event: TaskEvent, error_ms: int | None) -> None:
        injected = event.injected if isinstance(event, TaskAccepted | TaskDeclined) else None
        known = self.reading.cases.get(event.task)
        if known is None and isinstance(event, TaskDeclined) and injected:
            problems = refusals(injected.spec, self._kinds)
            if problems:
                self._refuse(event.task, injected, problems)
                return
        if known and injected and self._clashes(known, injected):
            self._refuse_clash(known, event, injected)
            return
        case = known or (self._born(event, injected) if injected else None)
        if case is None or life.is_anothers(case, self._worker, self._site):
            # Of a task that this database never held, or that is none of this worker's: kept, and applied to nothing.
            self.reading.reports.append(Report(number, event, error_ms))
        elif not life.is_refused(case, event, self._worker):
            self._move(case, event, error_ms)
            if isinstance(event, TaskDeclined) and not event.busy and self._is_open(event.task):
                self.reading.declined.append((number, event.task))

    def _is_open(self, task: str) -> bool:
        """Tell whether a task may still be offered to somebody: of one that has ended, nobody would forget it."""
        return self.reading.cases[task].task.state not in ENDED

    def _move(self, case: Case, event: TaskEvent, error_ms: int | None) -> None:
        moved, drops = self._verdict(case, event)
        self.reading.cases[event.task] = _with_error(case, moved, (event.attempt, self._worker), error_ms)
        self.reading.drops.extend(drops)

    def _verdict(self, case: Case, event: TaskEvent) -> life.Verdict:
        if is_parent(case.task):
            return on_told(case, event, self._worker)
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

    def _refuse(self, task: str, injected: Injected, problems: list[Problem]) -> None:
        """Reject a task that its worker declined and that no worker at all can run."""
        reason = "; ".join(map(str, problems))
        self._reject(task, injected, reason, problems)
        if injected.reply:
            self.reading.refused.append((injected.reply, Reply(task=task, outcome="rejected", error=reason)))

    def _reject(self, task: str, injected: Injected, reason: str, problems: list[Problem]) -> None:
        payload = injected.spec.model_dump_json(by_alias=True, exclude_none=True)[:MAX_REJECTED_BYTES]
        topic = f"{injected.via.value} tasks of {self._site}"
        self.reading.rejections.append(
            Rejection(self._now, topic, self._site, self._worker, task, reason, problems, payload)
        )

    def _refuse_clash(self, case: Case, event: TaskEvent, injected: Injected) -> None:
        """Keep a task whose id is another's out of that one's life; the worker is told to stop it."""
        problem = Problem("id", shown(event.task), "an id that no other task has")
        self._reject(event.task, injected, f"clashing id: {problem}", [problem])
        self.reading.cases[event.task] = life.refuse(case, event.attempt, self._worker, "clashing id")
        self.reading.drops.append(Drop(self._worker, event.task, event.attempt, "clashing id"))


def _moved(event: AnyEvent, offset_ms: int) -> AnyEvent:
    """Return an event with its times by the hub's clock."""
    times = {"at": event.at}
    if isinstance(event, Gap):
        told = {"first_at": event.first_at, "last_at": event.last_at}
        times |= {name: at for name, at in told.items() if at is not None}
    corrected = {name: min(max(0, at + offset_ms), MAX_MILLISECONDS) for name, at in times.items()}
    return event.model_copy(update=corrected)


def _with_error(before: Case, case: Case, key: tuple[int, str], error_ms: int | None) -> Case:
    """Let the bound of an attempt hold for each of its times: where one is of unknown error, so is the whole."""
    old, attempt = before.attempts.get(key), case.attempts.get(key)
    if attempt is None or _times(attempt) == _times(old):
        return case
    if old is not None and any(at is not None for at in _times(old)):
        error_ms = None if old.error_ms is None or error_ms is None else max(old.error_ms, error_ms)
    if attempt.error_ms == error_ms:
        return case
    return Case(case.task, {**case.attempts, key: attempt._replace(error_ms=error_ms)})


def _times(attempt: Attempt | None) -> tuple[int | None, ...]:
    return (attempt.accepted_ms, attempt.started_ms, attempt.finished_ms) if attempt else (None, None, None)


def _rejection(event: TaskRejected, site: str, worker: str) -> Rejection:
    problems = [Problem(problem.field, problem.value, problem.expected) for problem in event.problems]
    return Rejection(event.at, event.topic, site, worker, event.task, event.reason, problems, event.payload)
