"""What the hub will not take in, because nobody could run it."""

from __future__ import annotations

from broker.messages import TaskSpec
from hub.rules.admission import refusals

KINDS = {"noop", "camera.snapshot"}


def test_a_kind_that_somebody_runs_is_taken() -> None:
    assert refusals(TaskSpec(kind="noop"), KINDS) == []


def test_a_kind_that_nobody_runs_is_refused_with_those_that_there_are() -> None:
    (problem,) = refusals(TaskSpec(kind="snapshot"), KINDS)
    assert str(problem) == 'kind is "snapshot": expected a kind that some worker runs: camera.snapshot, noop'


def test_a_task_for_all_is_taken_as_one_for_one_worker_is() -> None:
    assert refusals(TaskSpec(kind="noop", target="all"), KINDS) == []
    (problem,) = refusals(TaskSpec(kind="x", target="all"), KINDS)
    assert problem.field == "kind"
