"""Whether the promises of docs/faults.md were kept: a pure function of the evidence.

Each rule says precisely what it holds Holdfast to, and what excuses it. An excuse is never a guess: it is a gap that
the hub shows, or a fault that was done. What is not promised is never asked for: see `tests.chaos.stream` and
`tests.chaos.disks` for how the suite avoids it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.chaos.city import BROKER, HUB
from tests.chaos.evidence import ENDED
from tests.chaos.plan import Kind
from tests.chaos.traced import LAST_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.chaos.evidence import AttemptSeen, End, Evidence, GapSeen, Run, TaskSeen
    from tests.chaos.nemesis import Wound

SLACK_MS = 2_000
"""How far apart two times may be said by processes that stood still in between, where only order is compared."""

CLOCK_SLACK_MS = 20
"""What two clocks of one machine, the steady one and the system's, drift apart in a run."""

_ANYTHING = ("everything", "recent")
"""What a gap is about that leaves open what is missing: a journal, or what gentle mode held when it crashed."""

ECHO_SECONDS = 15.0
"""For how long after a fault is healed its leases, hellos and resends may go on: the longest patience in a run."""

_OWN_FAULTS = frozenset(
    {Kind.KILL_AGENT, Kind.STOP_AGENT, Kind.WIPE_AGENT, Kind.CORRUPT_JOURNAL}
)  # what ends an agent, or what it runs
_JOURNAL_LOST = frozenset({Kind.WIPE_AGENT, Kind.CORRUPT_JOURNAL})
_GOES_ON = frozenset({"assigned", "accepted", "running"})
_NO_END = _GOES_ON | {"lost", "declined"}


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: which, and about which task, worker or program."""

    rule: str
    about: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}: {self.what}"


def violations(evidence: Evidence) -> list[Violation]:
    """Return every violation that the evidence shows."""
    seen = _Seen(evidence)
    found: list[Violation] = []
    for rule in RULES:
        name = rule.__name__.replace("_", " ")
        found += [Violation(name, about, what) for about, what in rule(seen)]
    return found


def excuses(evidence: Evidence) -> Counter[str]:
    """Return why tasks that may run twice did so, and how often."""
    return Counter(again.why for _, _, again in _begun_again(_Seen(evidence)))


class _Seen:
    """The evidence, sorted for the rules."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.runs: defaultdict[str, list[Run]] = defaultdict(list)
        for run in evidence.runs:
            self.runs[run.task].append(run)
        self.gaps: defaultdict[str, list[GapSeen]] = defaultdict(list)
        for gap in evidence.gaps:
            self.gaps[gap.worker].append(gap)
        self.ends: defaultdict[tuple[str, int, str], list[End]] = defaultdict(list)
        for end in evidence.ends:
            self.ends[end.task, end.attempt, end.worker].append(end)

    def covers(self, gap: GapSeen, from_steady: float, to_steady: float | None = None) -> bool:
        """Tell whether a gap is about a time, or about a time that begins then and has no known end."""
        early = self.evidence.wall_ms(from_steady)
        late = None if to_steady is None else self.evidence.wall_ms(to_steady)
        if gap.error_ms is None:
            return True  # nobody knows how far its clock was off, and the gap says so
        slack = SLACK_MS + gap.error_ms
        last = gap.at_ms if gap.last_ms is None else gap.last_ms
        return last >= early - slack and (gap.first_ms is None or late is None or gap.first_ms <= late + slack)

    def has_gap(self, worker: str, dropped: str, from_steady: float, to_steady: float | None = None) -> bool:
        """Tell whether a worker has a gap of a class about a time."""
        return any(gap.dropped == dropped and self.covers(gap, from_steady, to_steady) for gap in self.gaps[worker])

    def lost_its_journal(self, worker: str, from_steady: float, to_steady: float) -> bool:
        """Tell whether a worker said in a time that it has another journal now: by a gap, which must have its fault."""
        late = self.evidence.wall_ms(to_steady) + SLACK_MS
        return any(
            gap.dropped == "everything"
            and self.covers(gap, from_steady)
            and (gap.error_ms is None or gap.at_ms <= late + gap.error_ms)
            for gap in self.gaps[worker]
        )

    def will_never_tell(self, worker: str, from_steady: float) -> bool:
        """Tell whether a worker has lost, since then, what it had to tell."""
        return self.told_of_dropped_results(worker, from_steady) or any(
            gap.dropped == "everything" and self.covers(gap, from_steady) for gap in self.gaps[worker]
        )

    def told_of_dropped_results(self, worker: str, from_steady: float) -> bool:
        """Tell whether a worker has told since then that it dropped results, whenever they were from.

        Until it tells, the hub has waited for them; and which they were, nobody can say.
        """
        return any(
            gap.dropped == "results" and self.covers(replace(gap, last_ms=gap.at_ms), from_steady)
            for gap in self.gaps[worker]
        )

    def sent_at(self, task: str) -> float:
        """Return when a task was first heard of."""
        sent = self.evidence.sent.get(task)
        times = [at for at, _ in sent.posts] + sent.publications if sent else []
        return min([*times, *(run.began for run in self.runs[task])], default=self.evidence.began)


Finding = tuple[str, str]


def every_accepted_task_ended(seen: _Seen) -> Iterator[Finding]:
    """What the hub has said that it has (2xx by HTTP; for MQTT, that it knows the task) has ended, when all is healed.

    One that may run twice has succeeded: it is tried again for as long as it takes. One that may not has succeeded, or
    was interrupted while it ran, or a person has said what became of it.
    """
    for task in seen.evidence.tasks.values():
        if task.state not in ENDED:
            yield task.id, f"it is {task.state}: {task.reason}"
        elif task.idempotent and task.state != "succeeded" and not task.deeds:
            yield task.id, f"it may run twice, and {task.state}: {task.error}"
        elif task.state != "succeeded" and not task.deeds and not _was_interrupted(task):
            yield task.id, f"it {task.state}, and was not interrupted: {task.error}"
    for sent in seen.evidence.sent.values():
        if sent.accepted_at is not None and sent.order.id not in seen.evidence.tasks:
            yield sent.order.id, "the hub said that it has it, and has it no more"


def every_attempt_is_over(seen: _Seen) -> Iterator[Finding]:
    """When everybody is there and holds nothing, the hub shows no attempt as if it still went on.

    But for one whose worker lost its journal or dropped results since the task came: nobody will ever tell of it.
    """
    for task in seen.evidence.tasks.values():
        for attempt in task.attempts:
            if attempt.state in _GOES_ON and not seen.will_never_tell(attempt.worker, seen.sent_at(task.id)):
                yield task.id, f"attempt {attempt.number} at {attempt.worker} is {attempt.state}, as the hub has it"


def every_run_is_known(seen: _Seen) -> Iterator[Finding]:
    """What ran is a task that the hub knows; else a gap of its worker says that results were dropped then or later."""
    for task, runs in seen.runs.items():
        if task not in seen.evidence.tasks and not any(_results_may_be_gone(seen, run.worker, run) for run in runs):
            yield task, f"it ran at {runs[0].worker}, and the hub does not know it"


def no_result_is_lost(seen: _Seen) -> Iterator[Finding]:
    """Each end that a worker has committed to its journal is that attempt's end at the hub.

    Or else a gap of that worker covers it: `results`, with no smaller count; `everything`, where a journal was lost; or
    `recent`, where gentle mode crashed.
    What a handler had done, but its worker not yet committed when it was killed, was never reported.
    """
    missing: Counter[str] = Counter()
    for (task, attempt, worker), ends in seen.ends.items():
        at_hub = _attempt(seen.evidence.tasks.get(task), attempt, worker)
        outcomes = {end.outcome for end in ends}
        if at_hub is not None and at_hub.state in outcomes:
            continue
        if at_hub is not None and at_hub.state not in _NO_END and at_hub.state != "refused":
            yield task, f"attempt {attempt} at {worker} ended as {outcomes}, and the hub has {at_hub.state}"
            continue
        from_steady = min([run.began for run in seen.runs[task] if run.worker == worker], default=seen.sent_at(task))
        if any(seen.has_gap(worker, dropped, from_steady) for dropped in _ANYTHING):
            continue
        missing[worker] += 1
        if not seen.has_gap(worker, "results", from_steady):
            yield task, f"{worker} committed that attempt {attempt} {outcomes}, and neither that nor a gap arrived"
    yield from _too_few(seen, missing, "results")


def what_may_not_run_twice_ran_once(seen: _Seen) -> Iterator[Finding]:
    """A task that is not idempotent has left one trace of a beginning at most: whatever attempt, worker or life."""
    for task, runs in seen.runs.items():
        sent = seen.evidence.sent.get(task)
        if sent is not None and not sent.order.idempotent and len(runs) > 1:
            yield task, f"it may not run twice, and was begun {len(runs)} times"


def what_may_run_twice_did_so_for_a_reason(seen: _Seen) -> Iterator[Finding]:
    """An idempotent task was begun again only where an attempt was lost.

    The same attempt begins again at the same worker only when that was killed, or lost its journal, in between: its
    mark that it has begun waits for the next commit. Another attempt begins only where the hub knows of one that did
    not become the task's end, and something was broken, shortly before, that its worker depends on; or of none at all,
    and a gap of its worker says why. Or the task was published twice, and reached two workers.
    """
    for before, after, again in _begun_again(seen):
        if not again.is_excused:
            yield before.task, f"attempt {after.attempt} began at {after.worker} after {before}: {again.why}"


def every_drop_is_covered_by_a_gap(seen: _Seen) -> Iterator[Finding]:
    """Facts and progress of a run came before its success, in order: all of them, or there are gaps.

    A fact that is missing lies within a gap of its worker, of facts or of whatever there was; and the counts of a
    worker's gaps add up to no less than what is missing. So for progress, and for the start, which is dropped with it.
    """
    have = {(fact.worker, fact.task, fact.attempt, fact.boot, fact.number) for fact in seen.evidence.facts}
    missing: dict[str, Counter[str]] = {"facts": Counter(), "progress": Counter()}
    for task, attempt, run in _reported_runs(seen):
        key = (run.worker, task.id, run.attempt, run.boot)
        facts = sum((*key, number) not in have for number in range(seen.evidence.sent[task.id].order.facts))
        steps = (attempt.progress != LAST_PROGRESS) + (attempt.started_ms is None)
        for kind, count in (("facts", facts), ("progress", steps)):
            if not count or any(seen.has_gap(run.worker, dropped, run.began) for dropped in _ANYTHING):
                continue
            missing[kind][run.worker] += count
            if not seen.has_gap(run.worker, kind, run.began, run.ended):
                yield task.id, f"{count} {kind} of attempt {run.attempt} at {run.worker} are in no gap"
    for kind, by_worker in missing.items():
        yield from _too_few(seen, by_worker, kind)


def nothing_is_counted_twice(seen: _Seen) -> Iterator[Finding]:
    """What a run observed once, the hub has once: a batch that came again changed nothing."""
    for fact, count in Counter(seen.evidence.facts).items():
        if count > 1:
            yield fact.task, f"the hub has {fact} {count} times"


def every_unknown_was_justified(seen: _Seen) -> Iterator[Finding]:
    """What nobody knows, when everybody is there and has told everything, is a task that may not run twice.

    And since the task came, a worker that had it, or may have had it, has lost its journal, or told of dropped results.
    """
    for doubt in seen.evidence.doubts:
        task = seen.evidence.tasks.get(doubt.task)
        since = seen.sent_at(doubt.task)
        if task is None or task.idempotent:
            yield doubt.task, f"it may run twice, and was unknown: {doubt.reason}"
        elif not any(
            seen.lost_its_journal(worker, since, doubt.at) or seen.told_of_dropped_results(worker, since)
            for worker in doubt.workers
        ):
            who = ", ".join(doubt.workers) or "nobody"
            yield doubt.task, f"it was unknown ({doubt.reason}), and {who} had lost nothing"


def every_success_was_run(seen: _Seen) -> Iterator[Finding]:
    """A success at the hub is that of a run that has left the trace of its end: the same attempt, worker and boot."""
    complete = {(run.task, run.attempt, run.worker, run.boot) for run in seen.evidence.runs if run.ended is not None}
    for task in seen.evidence.tasks.values():
        for attempt in task.attempts:
            if attempt.state == "succeeded" and (task.id, attempt.number, attempt.worker, attempt.boot) not in complete:
                yield task.id, f"attempt {attempt.number} at {attempt.worker} succeeded, and left no trace of its end"


def every_gap_has_its_fault(seen: _Seen) -> Iterator[Finding]:
    """Nothing is dropped for nothing: a limit is small, a disk was filled, a journal was damaged or taken away."""
    for gap in seen.evidence.gaps:
        if not _is_explained(seen, gap):
            yield gap.worker, f"a gap that nothing explains: {gap}"


def journals_and_hub_agree(seen: _Seen) -> Iterator[Finding]:
    """When all is told, a journal is empty, its worker holds nothing, and both know the same last event."""
    for one in seen.evidence.journals:
        if one.rows or one.held or not one.newest == one.settled == one.committed:
            yield one.worker, f"{one}"


def times_are_right_within_their_error(seen: _Seen) -> Iterator[Finding]:
    """A run is said to begin no later than it did, and to end no earlier, by the hub's clock within the error shown."""
    for task, attempt, run in _reported_runs(seen):
        if attempt.error_ms is None or run.ended is None:
            continue
        within = attempt.error_ms + CLOCK_SLACK_MS
        began, ended = seen.evidence.wall_ms(run.began), seen.evidence.wall_ms(run.ended)
        if attempt.started_ms is not None and attempt.started_ms > began + within:
            yield task.id, f"{run} started {attempt.started_ms - began:.0f} ms late, error {attempt.error_ms} ms"
        if attempt.finished_ms is not None and attempt.finished_ms < ended - within:
            yield task.id, f"{run} finished {ended - attempt.finished_ms:.0f} ms early, error {attempt.error_ms} ms"


def nothing_ends_by_itself(seen: _Seen) -> Iterator[Finding]:
    """No program ends but by a signal of ours, and the hub refuses nothing that is well formed."""
    for death in seen.evidence.deaths:
        yield death.name, f"it ended by itself with {death.code}, {death.at - seen.evidence.began:.1f} s into the run"
    for refusal in seen.evidence.refused:
        yield refusal.split(":")[0], refusal


RULES: tuple[Callable[[_Seen], Iterable[Finding]], ...] = (
    every_accepted_task_ended,
    every_attempt_is_over,
    every_run_is_known,
    no_result_is_lost,
    what_may_not_run_twice_ran_once,
    what_may_run_twice_did_so_for_a_reason,
    every_drop_is_covered_by_a_gap,
    nothing_is_counted_twice,
    every_unknown_was_justified,
    every_success_was_run,
    every_gap_has_its_fault,
    journals_and_hub_agree,
    times_are_right_within_their_error,
    nothing_ends_by_itself,
)


def _attempt(task: TaskSeen | None, number: int, worker: str) -> AttemptSeen | None:
    attempts = task.attempts if task else ()
    return next((one for one in attempts if (one.number, one.worker) == (number, worker)), None)


def _was_interrupted(task: TaskSeen) -> bool:
    return task.state == "failed" and any(one.state == "interrupted" for one in task.attempts)


def _results_may_be_gone(seen: _Seen, worker: str, run: Run) -> bool:
    return any(seen.has_gap(worker, dropped, run.began) for dropped in ("results", "everything"))


def _reported_runs(seen: _Seen) -> Iterator[tuple[TaskSeen, AttemptSeen, Run]]:
    """Yield each run whose success the hub has from its worker."""
    runs = {(run.task, run.attempt, run.worker, run.boot): run for run in seen.evidence.runs if run.ended is not None}
    for task in seen.evidence.tasks.values():
        if task.id not in seen.evidence.sent:
            continue
        for attempt in task.attempts:
            run = runs.get((task.id, attempt.number, attempt.worker, attempt.boot or ""))
            if run is not None and attempt.state == "succeeded":
                yield task, attempt, run


def _begun_again(seen: _Seen) -> Iterator[tuple[Run, Run, _Again]]:
    """Yield each run of an idempotent task that followed another one, and why it did."""
    for task, runs in seen.runs.items():
        sent = seen.evidence.sent.get(task)
        if sent is not None and sent.order.idempotent:
            for before, after in pairwise(runs):
                yield before, after, _why_again(seen, before, after, published=len(sent.publications))


def _too_few(seen: _Seen, missing: Counter[str], dropped: str) -> Iterator[Finding]:
    for worker, count in missing.items():
        told = sum(gap.count or 0 for gap in seen.gaps[worker] if gap.dropped == dropped)
        if count > told:
            yield worker, f"{count} {dropped} are missing, and its gaps tell of {told}"


@dataclass(frozen=True, slots=True)
class _Again:
    """Why a task was begun again; or, where it has no excuse, what is wrong with that."""

    why: str
    is_excused: bool = True


def _why_again(seen: _Seen, before: Run, after: Run, *, published: int) -> _Again:
    if (before.attempt, before.worker) == (after.attempt, after.worker):
        return _why_same_attempt(seen, before, after)
    if before.attempt == after.attempt:
        if published > 1:
            return _Again("published again")
        return _Again("two workers have one attempt, and it was published once", is_excused=False)
    return _why_another_attempt(seen, before, after)


def _why_another_attempt(seen: _Seen, before: Run, after: Run) -> _Again:
    task = seen.evidence.tasks.get(before.task)
    if _attempt(task, before.attempt, before.worker) is None and _results_may_be_gone(seen, before.worker, before):
        return _Again("its worker's journal was lost before the hub heard of it")
    if task is not None and not _has_other_than_its_end(task):
        return _Again("the hub knows of no attempt that was lost", is_excused=False)
    around = {before.worker, seen.evidence.city.place(before.worker).site, HUB, BROKER}
    since = min(before.began, seen.sent_at(before.task))
    if not _was_hurt(seen, around, frozenset(Kind), since, after.began):
        return _Again(f"nothing that {before.worker} depends on was broken", is_excused=False)
    return _Again("an attempt was lost" if before.ended is None else "an attempt was late")


def _why_same_attempt(seen: _Seen, before: Run, after: Run) -> _Again:
    if seen.lost_its_journal(before.worker, before.began, after.began):
        return _Again("its worker lost its journal")
    if before.boot != after.boot and _was_hurt(seen, {before.worker}, _OWN_FAULTS, before.began, after.began):
        return _Again("its worker was ended")
    return _Again(f"the same attempt again, and {before.worker} was not ended in between", is_excused=False)


def _has_other_than_its_end(task: TaskSeen) -> bool:
    return any(one.state != "succeeded" or one.superseded for one in task.attempts)


def _was_hurt(seen: _Seen, targets: set[str], kinds: Iterable[Kind], from_steady: float, to_steady: float) -> bool:
    wanted = frozenset(kinds)
    return any(_touches(wound, targets, wanted, from_steady, to_steady) for wound in seen.evidence.wounds)


def _touches(wound: Wound, targets: set[str], kinds: frozenset[Kind], from_steady: float, to_steady: float) -> bool:
    return (
        wound.fault.target in targets
        and wound.fault.kind in kinds
        and wound.began <= to_steady
        and wound.healed + ECHO_SECONDS >= from_steady
    )


def _is_explained(seen: _Seen, gap: GapSeen) -> bool:
    if gap.worker not in {place.name for place in seen.evidence.city.places}:
        return False
    place = seen.evidence.city.place(gap.worker)
    done = {wound.fault.kind for wound in seen.evidence.wounds if wound.fault.target == gap.worker}
    if gap.dropped == "unreadable":
        return Kind.CORRUPT_JOURNAL in done
    if gap.dropped == "recent":
        return place.gentle and bool(done & _OWN_FAULTS)
    if gap.dropped == "everything":
        return bool(done & _JOURNAL_LOST) and "journal" in gap.reason
    if gap.reason == "the disk was full":
        return place.small_disk and Kind.FILL_DISK in done
    return place.small_buffer and "WORKER_BUFFER_MAX_MB" in gap.reason
