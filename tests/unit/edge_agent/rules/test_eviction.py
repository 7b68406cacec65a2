"""What goes first when a journal is full, and how it is told."""

from __future__ import annotations

import pytest

from broker.messages import (
    Dropped,
    Event,
    FactObserved,
    Gap,
    IncidentCleared,
    IncidentRaised,
    Outcome,
    TaskAccepted,
    TaskDeclined,
    TaskFinished,
    TaskProgress,
    TaskRejected,
    TaskStarted,
    WorkerStarted,
)
from edge_agent.rules.eviction import MAX_SLICE_BYTES, Class, Loss, Losses, Slice, class_of, cut, excess, losses_of


def fact(at: int) -> FactObserved:
    return FactObserved(at=at, subject="s", name="n", value=1)


def progress(at: int) -> TaskProgress:
    return TaskProgress(at=at, task="t", attempt=1, fraction=0.5)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (progress(1), Class.PROGRESS),
        (TaskStarted(at=1, task="t", attempt=1), Class.PROGRESS),
        (fact(1), Class.FACTS),
        (IncidentRaised(at=1, fingerprint="f", incident="i", summary="s"), Class.INCIDENTS),
        (IncidentCleared(at=1, fingerprint="f"), Class.INCIDENTS),
        (TaskAccepted(at=1, task="t", attempt=1), Class.RESULTS),
        (TaskFinished(at=1, task="t", attempt=1, outcome=Outcome.SUCCEEDED), Class.RESULTS),
        (TaskDeclined(at=1, task="t", attempt=1, reason="r"), Class.RESULTS),
        (TaskRejected(at=1, topic="t", reason="r", payload=""), Class.RESULTS),
        (Gap(at=1, dropped=Dropped.FACTS, count=1, reason="r"), Class.MARKS),
        (WorkerStarted(at=1, boot="b"), Class.MARKS),
    ],
)
def test_what_became_of_a_task_is_worth_most_and_marks_are_never_dropped(event: Event, kind: Class) -> None:
    assert class_of(event) is kind


def test_nothing_goes_up_to_the_limit_and_a_slice_more_than_needed_above_it() -> None:
    assert excess(1000, 1000) == 0
    assert excess(1001, 1000) == 51
    assert excess(10**9 + 1, 10**9) == 1 + MAX_SLICE_BYTES


def test_a_slice_is_the_oldest_rows_up_to_what_is_wanted() -> None:
    rows = [(3, 50, 10), (5, 40, 10), (9, 60, 10), (10, 70, 10)]
    assert cut(rows, 25) == Slice((3, 5, 9), 30, Loss(3, 40, 60))
    assert cut(rows, 1000) == Slice((3, 5, 9, 10), 40, Loss(4, 40, 70))
    assert cut(rows, 1000, most=2) == Slice((3, 5), 20, Loss(2, 40, 50))
    assert cut([], 25) is None


def test_losses_add_up_by_class_and_are_told_lowest_first() -> None:
    lost = losses_of([fact(5), progress(7)]).and_also(losses_of([progress(3), progress(9)]))
    assert lost.gaps("why", 100) == [
        Gap(at=100, dropped=Dropped.PROGRESS, count=3, first_at=3, last_at=9, reason="why"),
        Gap(at=100, dropped=Dropped.FACTS, count=1, first_at=5, last_at=5, reason="why"),
    ]


def test_the_loss_of_a_mark_is_no_loss() -> None:
    assert losses_of([WorkerStarted(at=1, boot="b")]) == Losses()
    assert not Losses()
