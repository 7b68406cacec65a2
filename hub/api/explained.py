"""Why a task is where it is: what each worker is to it, and why that one was chosen."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from broker.clock import now_ms
from hub.rules.children import Candidate, is_parent, judged
from hub.rules.placement import Judged, Verdict
from hub.rules.task import ENDED, AttemptState, TaskState
from hub.rules.waiting import shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hub.api.context import Context
    from hub.rules.children import Child
    from hub.rules.placement import Place
    from hub.rules.task import Attempt, Task
    from hub.store.queries import InFull
    from hub.worker import Worker

MAX_SHOWN = 200
"""Workers that are shown one by one; the rest are counted."""

AS_IT_IS_NOW = "by the fleet as it is now: the hub does not keep what the others were when it chose"
WOULD_BE = "by the fleet as it is now"
OF_A_PARENT = "who matched when the task was expanded has a child of it; the others are shown as they are now"
_ORDER = {verdict: place for place, verdict in enumerate(Verdict)}


def explained(found: InFull, context: Context, children: Mapping[str, Child]) -> dict[str, object]:
    """Return what each worker is to a task: `{"note", "workers", "counts", "not_shown"}`, the likeliest first.

    `children` are those of a parent, by worker.
    """
    task = found.task
    verdicts = _of_parent(task, context, children) if is_parent(task) else _of_task(task, context)
    counts = Counter(verdict for _, (verdict, _) in verdicts)
    shown = heapq.nsmallest(MAX_SHOWN, verdicts, key=_order)
    latest = {attempt.worker: attempt for attempt in found.attempts}
    return {
        "note": _note(task, chosen=bool(counts[Verdict.CHOSEN]), expanded=bool(children)),
        "workers": [
            {
                "worker": place.worker,
                "site": place.site,
                "verdict": said.verdict,
                "why": _why(task, latest.get(place.worker), context.fleet.get(place.worker), said),
            }
            for place, said in shown
        ],
        "counts": {verdict.value: counts[verdict] for verdict in Verdict if counts[verdict]},
        "not_shown": len(verdicts) - len(shown),
    }


def _of_task(task: Task, context: Context) -> list[tuple[Place, Judged]]:
    return [_with_choice(task, *one) for one in context.dispatcher.verdicts(task)]


def _of_parent(task: Task, context: Context, children: Mapping[str, Child]) -> list[tuple[Place, Judged]]:
    """Return what each worker is to a parent: nobody is given that, but may have a child of it."""
    shape, now, expanded = shape_of(task), now_ms(), bool(children)
    return [
        (one.place, judged(shape, Candidate(one.place, one.presence), children.get(one.id), now, expanded=expanded))
        for one in context.fleet
    ]


def _note(task: Task, *, chosen: bool, expanded: bool) -> str:
    if expanded:
        return OF_A_PARENT
    return AS_IT_IS_NOW if chosen or task.state in ENDED else WOULD_BE


def _order(one: tuple[Place, Judged]) -> tuple[int, str, str]:
    place, judged = one
    return _ORDER[judged.verdict], place.site, place.worker


def _with_choice(task: Task, place: Place, judged: Judged) -> tuple[Place, Judged]:
    """Return who has or had a task as chosen, whatever it would be to it now."""
    if task.worker != place.worker or task.state is TaskState.PENDING:
        return place, judged
    return place, Judged(Verdict.CHOSEN, "")


def _why(task: Task, attempt: Attempt | None, worker: Worker | None, judged: Judged) -> str:
    """Say why a worker is what it is to a task, with what became of its last attempt."""
    verdict, why = judged
    if verdict is Verdict.CHOSEN:
        return why or _why_chosen(task, attempt)
    if verdict is Verdict.OFFLINE and worker:
        state, reason = worker.presence.state, worker.presence.reason
        why = f"it is {state}: {reason}" if reason else f"it is {state}"
    if attempt is None:
        return why
    if attempt.state is AttemptState.DECLINED and verdict is Verdict.DECLINED:
        return f"it declined attempt {attempt.number}: {attempt.error}"
    return f"{why}; {_history(attempt)}"


def _why_chosen(task: Task, attempt: Attempt | None) -> str:
    number = task.attempt if attempt is None else attempt.number
    if attempt is not None and attempt.assigned_ms is None:
        return f"it took attempt {number} from a tasks topic, without the hub"
    if task.pinned:
        return f"it was given attempt {number}: no other worker may run it"
    return f"it was given attempt {number}: of the workers that could run it, it had the most free room"


def _history(attempt: Attempt) -> str:
    said = f": {attempt.error}" if attempt.error else ""
    return f"attempt {attempt.number} {_WORDS.get(attempt.state, attempt.state.value)} here{said}"


_WORDS: Mapping[AttemptState, str] = {
    AttemptState.ASSIGNED: "was assigned",
    AttemptState.ACCEPTED: "was accepted",
    AttemptState.RUNNING: "runs",
    AttemptState.CANCELLED: "was cancelled",
    AttemptState.DECLINED: "was declined",
    AttemptState.INTERRUPTED: "was interrupted",
    AttemptState.LOST: "was lost",
    AttemptState.REFUSED: "was refused",
    AttemptState.TIMED_OUT: "timed out",
}
