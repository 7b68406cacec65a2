"""What events make of cases, with nothing but values: whose clock counts, and how far each time can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from broker.messages import (
    AnyEvent,
    Birth,
    Dropped,
    FactObserved,
    Gap,
    Injected,
    JournalPosition,
    Outcome,
    TaskAccepted,
    TaskDeclined,
    TaskFinished,
    TaskSpec,
    TaskStarted,
    Via,
    WorkerStarted,
)
from hub.rules import life
from hub.rules.clocks import Estimate
from hub.rules.reading import Reading, Source, read, tasks_of
from hub.rules.task import Case, TaskState, new_task

if TYPE_CHECKING:
    from hub.rules.clocks import Clocks
    from hub.rules.task import Attempt

NOW = 10_000_000
AHEAD: Clocks = {"ahead": (Estimate(-1000, 5, 2000),), "behind": (Estimate(50, 9, 2000),)}


def source(clocks: Clocks = AHEAD, birth: Birth | None = None) -> Source:
    return Source("site-a", "w1", frozenset({"noop"}), clocks, birth)


def accepted(at: int) -> TaskAccepted:
    return TaskAccepted(at=at, task="t1", attempt=1, injected=Injected(spec=TaskSpec(kind="noop"), via=Via.SITE))


def started(at: int) -> TaskStarted:
    return TaskStarted(at=at, task="t1", attempt=1)


def finished(at: int) -> TaskFinished:
    return TaskFinished(at=at, task="t1", attempt=1, outcome=Outcome.SUCCEEDED)


def boot(name: str, at: int = 2000) -> WorkerStarted:
    return WorkerStarted(at=at, boot=name)


def reading(*events: AnyEvent, boot: str | None = None) -> Reading:
    return read(enumerate(events, start=1), source(), {}, boot, NOW)


def attempt_of(*events: AnyEvent, boot: str | None = None) -> Attempt:
    return reading(*events, boot=boot).cases["t1"].attempts[1, "w1"]


def times(attempt: Attempt) -> tuple[int | None, ...]:
    return (attempt.accepted_ms, attempt.started_ms, attempt.finished_ms, attempt.error_ms)


def test_times_are_by_the_hubs_clock_with_their_bound() -> None:
    events = (accepted(2000), started(2001), finished(2002))
    assert times(attempt_of(*events, boot="ahead")) == (1000, 1001, 1002, 6)  # a millisecond of drift
    assert reading(*events, boot="ahead").cases["t1"].task.created_ms == 1000


def test_the_clock_changes_with_the_boot() -> None:
    crossed = attempt_of(boot("ahead"), accepted(2000), boot("behind"), finished(2000))
    assert times(crossed) == (1000, None, 2050, 9)  # the wider bound holds for both
    assert reading(boot("ahead"), accepted(2000), boot("behind")).boot == "behind"


def test_where_one_time_is_of_unknown_error_all_are() -> None:
    assert times(attempt_of(accepted(2000), boot("ahead"), finished(2000))) == (2000, None, 1000, None)
    assert times(attempt_of(boot("ahead"), accepted(2000), boot("stranger"), finished(2000))) == (
        1000,
        None,
        2000,
        None,
    )


def test_reports_are_by_the_hubs_clock_too() -> None:
    fact = FactObserved(at=2000, subject="s", name="n", value=1)
    gap = Gap(at=2000, dropped=Dropped.FACTS, first_at=1500, last_at=1600, reason="full")
    start, told, missing = reading(boot("ahead"), fact, gap).reports
    assert (start.event.at, told.event.at, told.error_ms) == (1000, 1000, 5)
    assert isinstance(missing.event, Gap)
    assert (missing.event.at, missing.event.first_at, missing.event.last_at) == (1000, 500, 600)


def test_a_time_before_the_epoch_is_its_beginning() -> None:
    (report,) = reading(FactObserved(at=10, subject="s", name="n", value=1), boot="ahead").reports
    assert report.event.at == 0


def hello(newest: int) -> Birth:
    return Birth(
        session="s",
        boot="ahead",
        at=1,
        version="1",
        slots=1,
        kinds=(),
        heartbeat_interval_seconds=1,
        session_expiry_seconds=0,
        journal=JournalPosition(stream="st", oldest=1, newest=newest),
    )


def test_what_was_written_before_a_hello_may_be_of_an_earlier_session() -> None:
    known = source(birth=hello(newest=7))
    assert known.is_behind_hello("st", 8)
    assert not known.is_behind_hello("st", 7)  # as it stopped, it declined what it may take now
    assert not known.is_behind_hello("another", 8)
    assert not source().is_behind_hello("st", 8)


def test_a_worker_that_was_only_busy_may_be_given_the_task_again() -> None:
    told = TaskDeclined(at=1, task="t1", attempt=1, reason="does not run here")
    assert reading(accepted(1), told).declined == [(2, "t1")]
    busy = reading(accepted(1), told.model_copy(update={"busy": True}))
    assert busy.declined == []
    assert busy.cases["t1"].task.state is TaskState.PENDING


def test_who_declines_a_task_that_has_ended_is_not_remembered_for_ever() -> None:
    done = TaskFinished(at=1, task="t1", attempt=1, outcome=Outcome.SUCCEEDED)
    late = TaskDeclined(at=1, task="t1", attempt=2, reason="does not run here")
    told = reading(accepted(1), done, late)
    assert told.cases["t1"].task.state is TaskState.SUCCEEDED
    assert told.declined == []


def test_what_a_journal_holds_behind_its_hello_is_of_the_boot_that_said_it() -> None:
    known = source(birth=hello(newest=7))
    assert known.boot_after("st", mark=7, boot=None) == "ahead"
    assert known.boot_after("st", mark=7, boot="told by the stream") == "told by the stream"
    assert known.boot_after("st", mark=6, boot=None) is None  # what follows may be of an earlier boot
    assert known.boot_after("another", mark=7, boot=None) is None
    assert source().boot_after("st", mark=7, boot=None) is None


@given(
    events=st.lists(
        st.sampled_from([accepted(2000), started(2001), finished(2002), boot("ahead"), boot("behind")]), max_size=9
    ),
    cut=st.integers(0, 9),
)
def test_however_a_journal_is_cut_it_comes_to_the_same(events: list[AnyEvent], cut: int) -> None:
    numbered = list(enumerate(events, start=1))
    whole = read(numbered, source(), {}, None, NOW)
    first = read(numbered[:cut], source(), {}, None, NOW)
    second = read(numbered[cut:], source(), first.cases, first.boot, NOW)
    assert (second.cases, second.boot) == (whole.cases, whole.boot)
    assert first.reports + second.reports == whole.reports
    assert first.drops + second.drops == whole.drops
    assert tasks_of(numbered) <= {"t1"}


def test_the_cases_that_it_is_given_stay_as_they_are() -> None:
    before = reading(accepted(2000)).cases
    known = {task: (case.task, dict(case.attempts)) for task, case in before.items()}
    read([(2, finished(2002))], source(), before, None, NOW)
    assert {task: (case.task, dict(case.attempts)) for task, case in before.items()} == known


def case_for(site: str | None, pinned: str | None) -> Case:
    """Return a case that the hub has given to w2 at site-b."""
    task = new_task(TaskSpec(kind="noop"), "t1", via="http", site=site, pinned=pinned, now=1)
    return life.assign(Case(task), "w2", 1)


LIES = [
    (TaskAccepted(at=1, task="t1", attempt=2),),
    (TaskStarted(at=1, task="t1", attempt=2),),
    (finished(1),),
    (TaskDeclined(at=1, task="t1", attempt=2, reason="so that nobody does it"),),
]


@pytest.mark.parametrize("events", LIES, ids=lambda events: type(events[0]).__name__)
@pytest.mark.parametrize(("site", "pinned"), [("site-b", None), (None, "w2"), ("site-b", "w2"), ("site-a", "w2")])
def test_no_worker_moves_a_task_of_another_site_or_worker(
    events: tuple[AnyEvent, ...], site: str | None, pinned: str | None
) -> None:
    case = case_for(site, pinned)
    told = read(enumerate(events, start=1), source(), {"t1": case}, None, NOW)

    assert told.cases == {"t1": case}
    assert (told.drops, told.declined) == ([], [])
    assert [report.event for report in told.reports] == list(events)


def test_an_id_that_clashed_gives_no_say_in_the_other_task() -> None:
    case = case_for("site-b", None)
    late = TaskFinished(at=1, task="t1", attempt=7, outcome=Outcome.SUCCEEDED)
    told = read(enumerate([accepted(1), late], start=1), source(), {"t1": case}, None, NOW)

    assert told.cases["t1"].task == case.task


def test_a_worker_that_moved_tells_of_what_it_was_given_before() -> None:
    task = new_task(TaskSpec(kind="noop"), "t1", via="http", site="site-b", pinned=None, now=1)
    told = read([(1, finished(2))], source(), {"t1": life.assign(Case(task), "w1", 1)}, None, NOW)

    assert told.cases["t1"].task.state is TaskState.SUCCEEDED
