"""Each violation is caught, and what excuses it does; on histories that are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import ECHO_SECONDS, violations
from tests.chaos.city import CITY
from tests.chaos.evidence import AttemptSeen, End, Evidence, FactSeen, GapSeen, JournalSeen, Run, TaskSeen
from tests.chaos.house import Death
from tests.chaos.nemesis import Wound
from tests.chaos.plan import Fault, Kind
from tests.chaos.settling import Doubt
from tests.chaos.stream import Sent
from tests.chaos.traced import LAST_PROGRESS
from tests.chaos.work import Order, Way

T = 100.0
"""When the task runs, by the steady clock."""

WALL = 1_000.0
LATER = T + ECHO_SECONDS + 60


def ms(steady: float) -> int:
    return int((steady + WALL) * 1000)


def the_order(**changed: Any) -> Order:  # noqa: ANN401
    fields: dict[str, Any] = {
        "id": "t1",
        "way": Way.HTTP,
        "idempotent": True,
        "site": "site-a",
        "worker": None,
        "milliseconds": 0,
        "facts": 1,
    }
    return Order(**{**fields, **changed})


def sent(**changed: Any) -> Sent:  # noqa: ANN401
    return Sent(the_order(**changed), posts=[(T - 1, "201")], accepted_at=T - 1)


def a_run(**changed: Any) -> Run:  # noqa: ANN401
    fields: dict[str, Any] = {"task": "t1", "attempt": 1, "worker": "a1", "boot": "b1", "began": T, "ended": T + 0.1}
    return Run(**{**fields, **changed})


def an_attempt(**changed: Any) -> AttemptSeen:  # noqa: ANN401
    fields: dict[str, Any] = {
        "number": 1,
        "worker": "a1",
        "state": "succeeded",
        "accepted_ms": ms(T - 0.1),
        "started_ms": ms(T),
        "finished_ms": ms(T + 0.1),
        "boot": "b1",
        "progress": LAST_PROGRESS,
        "error_ms": 2,
    }
    return AttemptSeen(**{**fields, **changed})


def a_task(*attempts: AttemptSeen, **changed: Any) -> TaskSeen:  # noqa: ANN401
    task = TaskSeen("t1", "succeeded", idempotent=True, attempt=1, worker="a1", attempts=attempts or (an_attempt(),))
    return replace(task, **changed)


def a_gap(dropped: str, **changed: Any) -> GapSeen:  # noqa: ANN401
    reason = "the journal held more than 0.03 MB (WORKER_BUFFER_MAX_MB)"
    gap = GapSeen("a1", dropped, 1, at_ms=ms(T + 1), first_ms=ms(T), last_ms=ms(T + 1), reason=reason)
    return replace(gap, **changed)


def a_wound(kind: Kind, target: str = "a1", began: float = T + 0.5, seconds: float = 1.0) -> Wound:
    return Wound(Fault(1, began, kind, target, seconds, 0.5), began, began + seconds)


def evidence(**changed: Any) -> Evidence:  # noqa: ANN401
    """Return a history in which all is well: one task that ran once."""
    fields: dict[str, Any] = {
        "city": CITY,
        "sent": {"t1": sent()},
        "runs": [a_run()],
        "tasks": {"t1": a_task()},
        "gaps": [],
        "facts": [FactSeen("a1", "t1", 1, "b1", 0)],
        "ends": [End("a1", "t1", 1, "succeeded")],
        "journals": [JournalSeen("a1", rows=0, held=0, newest=5, settled=5, committed=5)],
        "doubts": [],
        "wounds": [],
        "deaths": [],
        "refused": [],
        "wall_offset": WALL,
        "began": 0.0,
    }
    return Evidence(**{**fields, **changed})


def rules(**changed: Any) -> set[str]:  # noqa: ANN401
    """Return which rules the history breaks that differs so from the good one."""
    return {one.rule for one in violations(evidence(**changed))}


NEW_JOURNAL = a_gap(
    "everything",
    at_ms=ms(T + 2),
    first_ms=None,
    last_ms=ms(T + 2),
    reason="a new journal: what the last one held after event 7 did not arrive",
)
ONCE = {"t1": sent(idempotent=False)}
LOST = an_attempt(state="lost", boot=None, finished_ms=None)


def test_a_good_history_breaks_no_rule() -> None:
    assert violations(evidence()) == []


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "assigned", "running", "unknown"])
def test_a_task_that_has_not_ended_is_caught(state: str) -> None:
    assert "every accepted task ended" in rules(tasks={"t1": a_task(state=state)})


def test_a_task_that_the_hub_has_no_more_is_caught() -> None:
    assert "every accepted task ended" in rules(tasks={})


def test_what_may_run_twice_must_have_succeeded() -> None:
    failed = a_task(an_attempt(state="interrupted", boot=None), state="failed")
    assert "every accepted task ended" in rules(tasks={"t1": failed})


def test_what_may_not_run_twice_may_have_been_interrupted_but_not_have_failed_otherwise() -> None:
    ended = {"runs": [a_run(ended=None)], "ends": [], "sent": ONCE}
    interrupted = a_task(an_attempt(state="interrupted", boot=None), state="failed", idempotent=False)
    assert rules(tasks={"t1": interrupted}, **ended) == set()
    failed = a_task(an_attempt(state="failed", boot=None), state="failed", idempotent=False)
    assert rules(tasks={"t1": failed}, **ended) == {"every accepted task ended"}


@pytest.mark.parametrize("state", ["assigned", "accepted", "running"])
def test_an_attempt_that_is_shown_to_go_on_for_ever_is_caught(state: str) -> None:
    left = an_attempt(number=2, worker="a2", state=state, boot=None, finished_ms=None, superseded=True)
    assert rules(tasks={"t1": a_task(an_attempt(), left)}) == {"every attempt is over"}
    lost = {"gaps": [replace(NEW_JOURNAL, worker="a2")], "wounds": [a_wound(Kind.WIPE_AGENT, "a2")]}
    assert rules(tasks={"t1": a_task(an_attempt(), left)}, **lost) == set()


def test_a_run_of_a_task_that_the_hub_never_heard_of_is_caught_unless_results_were_dropped() -> None:
    unheard = {"tasks": {}, "sent": {"t1": Sent(the_order(way=Way.SITE), publications=[T - 1])}, "ends": []}
    assert rules(**unheard) == {"every run is known"}
    assert rules(**unheard, gaps=[a_gap("results")]) == set()


# -- results ---------------------------------------------------------------------------------------------------------


def test_a_result_that_a_worker_committed_and_the_hub_has_not_is_caught() -> None:
    assert "no result is lost" in rules(tasks={"t1": a_task(LOST, an_attempt(number=2, worker="a2", boot="b2"))})


def test_a_result_that_was_dropped_is_excused_by_a_gap_that_counts_it() -> None:
    lost = {
        "tasks": {"t1": a_task(LOST, an_attempt(number=2, worker="a2", boot="b2"))},
        "runs": [a_run(), a_run(attempt=2, worker="a2", boot="b2", began=T + 2, ended=T + 2.1)],
        "facts": [FactSeen("a2", "t1", 2, "b2", 0)],
        "wounds": [a_wound(Kind.CUT_AGENT)],
    }
    finished = an_attempt(number=2, worker="a2", boot="b2", started_ms=ms(T + 2), finished_ms=ms(T + 2.1))
    lost["tasks"] = {"t1": a_task(LOST, finished)}
    assert rules(**lost) == {"no result is lost"}
    assert rules(**lost, gaps=[a_gap("results")]) == set()
    assert rules(**lost, gaps=[a_gap("results", count=None)]) == {"no result is lost"}
    before = a_gap("results", at_ms=ms(T - 20), first_ms=ms(T - 30), last_ms=ms(T - 20))
    assert rules(**lost, gaps=[before]) == {"no result is lost"}


def test_another_end_at_the_hub_than_its_worker_committed_is_caught() -> None:
    assert "no result is lost" in rules(ends=[End("a1", "t1", 1, "interrupted")])


def test_a_success_that_left_no_trace_of_its_end_is_caught() -> None:
    assert "every success was run" in rules(runs=[a_run(ended=None)])
    assert "every success was run" in rules(tasks={"t1": a_task(an_attempt(boot="b9"))})


# -- runs ------------------------------------------------------------------------------------------------------------


def test_a_second_run_of_what_may_not_run_twice_is_caught_whatever_was_broken() -> None:
    twice = [a_run(ended=None), a_run(attempt=2, worker="a2", boot="b2", began=T + 5, ended=T + 6)]
    found = rules(
        sent=ONCE, runs=twice, wounds=[a_wound(Kind.KILL_AGENT), a_wound(Kind.WIPE_AGENT)], gaps=[a_gap("everything")]
    )
    assert "what may not run twice ran once" in found


def again(**changed: Any) -> Run:  # noqa: ANN401
    return a_run(**{"began": T + 5, "ended": T + 5.1, **changed})


RULE_AGAIN = "what may run twice did so for a reason"


def test_the_same_attempt_again_is_caught_unless_its_worker_was_ended_in_between() -> None:
    runs = [a_run(ended=None), again(boot="b2")]
    assert RULE_AGAIN in rules(runs=runs)
    assert RULE_AGAIN in rules(runs=runs, wounds=[a_wound(Kind.FREEZE_AGENT)])
    assert RULE_AGAIN in rules(runs=runs, wounds=[a_wound(Kind.KILL_AGENT, "a2")])
    assert RULE_AGAIN in rules(runs=runs, wounds=[a_wound(Kind.KILL_AGENT, began=T + 6)])
    assert RULE_AGAIN not in rules(runs=runs, wounds=[a_wound(Kind.KILL_AGENT)])


def test_the_same_attempt_again_in_one_life_takes_a_lost_journal() -> None:
    runs = [a_run(ended=None), again()]
    assert RULE_AGAIN in rules(runs=runs, wounds=[a_wound(Kind.KILL_AGENT)])
    assert RULE_AGAIN not in rules(runs=runs, gaps=[NEW_JOURNAL])
    assert RULE_AGAIN in rules(runs=runs, gaps=[replace(NEW_JOURNAL, dropped="recent")])
    assert RULE_AGAIN in rules(runs=runs, gaps=[replace(NEW_JOURNAL, at_ms=ms(LATER), last_ms=ms(LATER))])


def test_another_attempt_is_caught_unless_one_was_lost_and_something_was_broken() -> None:
    runs = [a_run(), again(attempt=2, worker="a2", boot="b2")]
    second = an_attempt(number=2, worker="a2", boot="b2", superseded=True)
    lost = {"t1": a_task(an_attempt(), second)}
    assert RULE_AGAIN not in rules(runs=runs, tasks=lost, wounds=[a_wound(Kind.CUT_SITE, "site-a")])
    assert RULE_AGAIN in rules(runs=runs, tasks=lost)
    assert RULE_AGAIN in rules(runs=runs, tasks=lost, wounds=[a_wound(Kind.KILL_AGENT, "b1")])
    none_lost = {"t1": a_task(an_attempt(), replace(second, superseded=False))}
    assert RULE_AGAIN in rules(runs=runs, tasks=none_lost, wounds=[a_wound(Kind.KILL_HUB, "hub")])


def test_an_attempt_that_the_hub_never_heard_of_takes_a_gap_of_its_worker() -> None:
    runs = [a_run(), again(attempt=2, worker="a2", boot="b2")]
    heard = {"t1": a_task(an_attempt(number=2, worker="a2", boot="b2"))}
    assert RULE_AGAIN in rules(runs=runs, tasks=heard, wounds=[a_wound(Kind.CORRUPT_JOURNAL)])
    lost = a_gap("everything", reason="the journal was damaged")
    assert RULE_AGAIN not in rules(runs=runs, tasks=heard, wounds=[a_wound(Kind.CORRUPT_JOURNAL)], gaps=[lost])


def test_one_attempt_at_two_workers_takes_two_publications() -> None:
    runs = [a_run(), again(worker="a2", boot="b2")]
    for publications, is_caught in (([T - 1], True), ([T - 1, T], False)):
        published = {"t1": Sent(the_order(way=Way.SITE), publications=publications, accepted_at=T + 9)}
        assert (RULE_AGAIN in rules(runs=runs, sent=published)) is is_caught


# -- drops -----------------------------------------------------------------------------------------------------------

RULE_DROPS = "every drop is covered by a gap"


def test_a_fact_that_is_missing_is_caught_unless_a_gap_covers_and_counts_it() -> None:
    assert rules(facts=[]) == {RULE_DROPS}
    assert rules(facts=[], gaps=[a_gap("facts")]) == set()
    assert rules(facts=[], gaps=[a_gap("progress")]) == {RULE_DROPS}
    assert rules(facts=[], gaps=[a_gap("facts", worker="c2")]) == {RULE_DROPS}
    late = a_gap("facts", first_ms=ms(T + 30), last_ms=ms(T + 40), at_ms=ms(T + 40))
    assert rules(facts=[], gaps=[late]) == {RULE_DROPS}


def test_a_gap_that_counts_too_few_is_caught() -> None:
    missing = {"facts": [], "sent": {"t1": sent(facts=3)}}
    assert rules(**missing, gaps=[a_gap("facts", count=3)]) == set()
    assert rules(**missing, gaps=[a_gap("facts", count=2)]) == {RULE_DROPS}


@pytest.mark.parametrize("changed", [{"progress": None}, {"progress": 0.25}, {"started_ms": None}])
def test_progress_that_is_missing_is_caught_unless_a_gap_covers_it(changed: dict[str, Any]) -> None:
    tasks = {"t1": a_task(an_attempt(**changed))}
    assert rules(tasks=tasks) == {RULE_DROPS}
    assert rules(tasks=tasks, gaps=[a_gap("progress")]) == set()


def test_a_fact_that_is_there_twice_is_caught() -> None:
    assert rules(facts=[FactSeen("a1", "t1", 1, "b1", 0)] * 2) == {"nothing is counted twice"}


def test_a_gap_without_a_fault_is_caught() -> None:
    rule = {"every gap has its fault"}
    assert rules(gaps=[a_gap("facts", worker="a2")]) == rule
    full = a_gap("facts", worker="b1", reason="the disk was full")
    assert rules(gaps=[full]) == rule
    assert rules(gaps=[full], wounds=[a_wound(Kind.FILL_DISK, "b1")]) == set()
    lost = a_gap("everything", reason="a new journal: what the last one held after event 7 did not arrive")
    assert rules(gaps=[lost], wounds=[a_wound(Kind.KILL_AGENT)]) == rule
    assert rules(gaps=[lost], wounds=[a_wound(Kind.WIPE_AGENT)]) == set()
    forgot = a_gap("everything", reason="this database has lost what its worker told of it, after event 7")
    assert rules(gaps=[forgot], wounds=[a_wound(Kind.KILL_HUB, "hub")]) == rule
    gentle = a_gap("recent", worker="c1", reason="gentle mode: up to 1 s of events may be missing after a crash")
    assert rules(gaps=[gentle]) == rule
    assert rules(gaps=[gentle], wounds=[a_wound(Kind.KILL_AGENT, "c1")]) == set()


# -- what is not known, and the rest ---------------------------------------------------------------------------------


def doubtful(*, idempotent: bool = False) -> dict[str, Any]:
    resolved = a_task(LOST, state="failed", idempotent=idempotent, deeds=("resolve {}",))
    return {
        "sent": {"t1": sent(idempotent=idempotent)},
        "tasks": {"t1": resolved},
        "runs": [a_run(ended=None)],
        "ends": [],
        "doubts": [Doubt("t1", "its worker came back with a new journal", ("a1",), LATER, "resolve failed: 200")],
    }


def test_an_unknown_that_nothing_justifies_is_caught() -> None:
    rule = {"every unknown was justified"}
    assert rules(**doubtful()) == rule
    assert rules(**doubtful(), wounds=[a_wound(Kind.KILL_AGENT)]) == rule
    lost = {"wounds": [a_wound(Kind.WIPE_AGENT), a_wound(Kind.WIPE_AGENT, "a2")]}
    assert rules(**doubtful(), **lost) == rule
    assert rules(**doubtful(), **lost, gaps=[replace(NEW_JOURNAL, worker="a2")]) == rule
    early = replace(NEW_JOURNAL, at_ms=ms(T - 60), last_ms=ms(T - 60))
    assert rules(**doubtful(), **lost, gaps=[early]) == rule
    assert rules(**doubtful(), **lost, gaps=[NEW_JOURNAL]) == set()
    assert rules(**doubtful(), gaps=[a_gap("results")]) == set()


def test_what_may_run_twice_is_never_unknown() -> None:
    found = rules(**doubtful(idempotent=True), wounds=[a_wound(Kind.WIPE_AGENT)], gaps=[NEW_JOURNAL])
    assert found == {"every unknown was justified"}


@pytest.mark.parametrize("changed", [{"rows": 1}, {"held": 1}, {"committed": 4}, {"settled": 4}])
def test_a_journal_that_is_not_told_to_its_end_is_caught(changed: dict[str, Any]) -> None:
    journal = JournalSeen("a1", rows=0, held=0, newest=5, settled=5, committed=5)
    assert rules(journals=[replace(journal, **changed)]) == {"journals and hub agree"}


@pytest.mark.parametrize("changed", [{"started_ms": ms(T + 1)}, {"finished_ms": ms(T - 1)}])
def test_times_beyond_their_error_are_caught_where_there_is_one(changed: dict[str, int]) -> None:
    assert rules(tasks={"t1": a_task(an_attempt(**changed))}) == {"times are right within their error"}
    assert rules(tasks={"t1": a_task(an_attempt(**changed, error_ms=1_500))}) == set()
    assert rules(tasks={"t1": a_task(an_attempt(**changed, error_ms=None))}) == set()


def test_a_program_that_ends_by_itself_and_a_task_that_is_refused_are_caught() -> None:
    assert rules(deaths=[Death("hub", 1, T)]) == {"nothing ends by itself"}
    assert rules(refused=["t2: 422 no such kind"]) == {"nothing ends by itself"}
