"""What a run says: a line while it goes on, a table when it is over, and the whole history of what went wrong."""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from tests.chaos.checker import excuses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chaos.checker import Violation
    from tests.chaos.evidence import Evidence
    from tests.chaos.house import House

MOST_HISTORIES = 5
MOST_LOG_LINES = 120
AROUND_SECONDS = 15.0


class LiveLine:
    """One line that is written over and over, where somebody looks; else now and then one more."""

    def __init__(self, out: TextIO = sys.stderr, *, every_looks: int = 30) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._every = every_looks
        self._looks = 0

    def show(self, text: str) -> None:
        """Show how it goes."""
        if self._is_terminal:
            self._out.write(f"\r\x1b[K{text[:150]}")
        elif self._looks % self._every == 0:
            self._out.write(f"{text}\n")
        self._looks += 1
        self._out.flush()

    def close(self) -> None:
        """Leave the last one standing."""
        if self._is_terminal:
            self._out.write("\n")


def summary(
    evidence: Evidence, found: Iterable[Violation], *, seed: int, seconds: float, skipped: Iterable[str]
) -> str:
    """Return the table at the end."""
    return "\n".join(_summary(evidence, Counter(one.rule for one in found), seed, seconds, list(skipped)))


def _summary(evidence: Evidence, broken: Counter[str], seed: int, seconds: float, skipped: list[str]) -> Iterator[str]:
    tasks = evidence.tasks
    faults = Counter(wound.fault.kind.value for wound in evidence.wounds)
    yield f"chaos, seed {seed}: {seconds:.0f} s"
    yield from _row("faults", faults)
    yield from (f"  {'not done':<14} {why}" for why in skipped)
    ways = Counter(
        f"{one.order.way.value}, {'idempotent' if one.order.idempotent else 'once'}" for one in evidence.sent.values()
    )
    yield from _row("tasks sent", ways)
    accepted = sum(one.accepted_at is not None for one in evidence.sent.values())
    yield f"  {'at the hub':<14} {len(tasks):>7,}  {accepted:,} of them said to be accepted while they came"
    for kind, wanted in (("idempotent", True), ("once", False)):
        yield from _row(kind, Counter(one.state for one in tasks.values() if one.idempotent is wanted))
    attempts = Counter(attempt.state for task in tasks.values() for attempt in task.attempts)
    yield from _row("attempts", attempts)
    yield from _row("runs", _runs(evidence))
    yield from _row("begun again", excuses(evidence))
    yield from _row("unknown", Counter(doubt.reason or "no reason" for doubt in evidence.doubts))
    yield from _row("resolved", Counter(doubt.deed.split(":")[0] for doubt in evidence.doubts))
    yield from _row("gaps", Counter(gap.dropped for gap in evidence.gaps))
    yield from _row("events dropped", _dropped(evidence))
    yield from _row("violations", broken)


def _row(name: str, counts: Counter[str] | dict[str, int]) -> Iterator[str]:
    total = sum(counts.values())
    parts = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items(), key=lambda item: -item[1]))
    yield f"  {name:<14} {total:>7,}  {parts}".rstrip()


def _runs(evidence: Evidence) -> dict[str, int]:
    of_task = Counter(run.task for run in evidence.runs)
    may_repeat = {name for name, one in evidence.sent.items() if one.order.idempotent}
    return {
        "first": len(of_task),
        "again, may run twice": sum(count - 1 for task, count in of_task.items() if task in may_repeat),
        "again, may not": sum(count - 1 for task, count in of_task.items() if task not in may_repeat),
    }


def _dropped(evidence: Evidence) -> Counter[str]:
    counts: Counter[str] = Counter()
    for gap in evidence.gaps:
        counts[gap.dropped] += gap.count or 0
    return +counts


def histories(evidence: Evidence, found: list[Violation], house: House) -> str:
    """Return the whole history of the first violations."""
    texts = ["\n".join([f"== {one}", *_history(evidence, one.about, house)]) for one in found[:MOST_HISTORIES]]
    if len(found) > MOST_HISTORIES:
        texts.append(f"… and {len(found) - MOST_HISTORIES} more:")
        texts.append("\n".join(f"  {one}" for one in found[MOST_HISTORIES : MOST_HISTORIES + 100]))
    return "\n\n".join(texts)


def _history(evidence: Evidence, about: str, house: House) -> Iterator[str]:
    began, times = evidence.began, []
    sent = evidence.sent.get(about)
    workers = {about} & set(house.agents)
    if sent:
        yield f"sent      {sent.order}"
        for at, what in sent.posts:
            times.append(at)
            yield f"  {at - began:8.3f} posted: {what}"
        for at in sent.publications:
            times.append(at)
            yield f"  {at - began:8.3f} published"
        if sent.accepted_at:
            yield f"  {sent.accepted_at - began:8.3f} accepted"
    for run in (run for run in evidence.runs if run.task == about):
        times += [run.began, run.ended or run.began]
        workers.add(run.worker)
        end = "no end" if run.ended is None else f"end {run.ended - began:.3f}"
        yield f"  {run.began - began:8.3f} run: attempt {run.attempt} at {run.worker}, boot {run.boot}, {end}"
    task = evidence.tasks.get(about)
    if task:
        yield f"hub       {task.state} attempt {task.attempt} at {task.worker}, {task.reason=}, {task.error=}"
        for attempt in task.attempts:
            workers.add(attempt.worker)
            yield f"          {attempt}"
        yield from (f"          {deed}" for deed in task.deeds)
    for doubt in evidence.doubts:
        if doubt.task == about:
            workers.update(doubt.workers)
            times.append(doubt.at)
            yield f"  {doubt.at - began:8.3f} unknown: {doubt}"
    yield from _around(evidence, workers, times)
    yield from _log_lines(evidence, about, house)


def _around(evidence: Evidence, workers: set[str], times: list[float]) -> Iterator[str]:
    if not workers and not times:
        return
    early = min(times, default=evidence.began) - AROUND_SECONDS
    late = max(times, default=float("inf")) + AROUND_SECONDS
    for wound in sorted(evidence.wounds, key=lambda one: one.began):
        if wound.healed >= early and wound.began <= late:
            yield f"  {wound.began - evidence.began:8.3f} to {wound.healed - evidence.began:.3f}: {wound.fault}"
    for gap in evidence.gaps:
        if gap.worker in workers:
            yield f"gap       {_steady(evidence, gap.at_ms):8.3f} {gap}"


def _log_lines(evidence: Evidence, about: str, house: House) -> Iterator[str]:
    lines = []
    for program in (house.hub, *house.agents.values()):
        with program.log.open(encoding="utf-8", errors="replace") as log:
            lines += [(_said_at(evidence, line), program.name, line.rstrip()) for line in log if f'"{about}"' in line]
    yield f"log       {len(lines)} lines"
    for at, name, line in sorted(lines)[:MOST_LOG_LINES]:
        yield f"  {at:8.3f} {name}: {line[:400]}"


def _said_at(evidence: Evidence, line: str) -> float:
    """Return when a line was logged, by its own clock, in seconds into the run."""
    try:
        stamp = json.loads(line)["timestamp"]
    except (ValueError, KeyError):
        return 0.0
    at = datetime.fromisoformat(stamp).astimezone(UTC)
    return _steady(evidence, at.timestamp() * 1000)


def _steady(evidence: Evidence, wall_ms: float) -> float:
    return wall_ms / 1000 - evidence.wall_offset - evidence.began
