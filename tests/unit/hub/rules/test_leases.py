"""Who holds which task, and until when without a word."""

from __future__ import annotations

from hypothesis import given, strategies as st

from hub.rules.leases import Lease, Leases, is_before


def lease(task: str, worker: str = "w1", *, at: int = 0, accepted: bool = False, attempt: int = 1) -> Lease:
    return Lease(task, attempt, worker, at, idempotent=True, accepted=accepted)


def test_a_worker_holds_what_it_was_sent_until_it_is_released() -> None:
    leases = Leases()
    leases.hold(lease("t1"))
    leases.hold(lease("t2"))
    assert leases.count("w1") == 2
    assert leases.release("t1") == lease("t1")
    assert leases.of("w1") == [lease("t2")]
    assert leases.release("t1") is None


def test_a_worker_that_holds_nothing_counts_none() -> None:
    assert Leases().count("w1") == 0
    assert Leases().of("w1") == []


def test_a_task_is_in_one_hand_at_a_time() -> None:
    leases = Leases()
    leases.hold(lease("t1", "w1"))
    leases.hold(lease("t1", "w2", attempt=2))
    assert leases.of("w1") == []
    assert leases.of("w2") == [lease("t1", "w2", attempt=2)]


def test_what_was_not_accepted_in_time_is_overdue_once_per_timeout() -> None:
    leases = Leases()
    leases.hold(lease("t1", at=0))
    leases.hold(lease("t2", at=500))
    assert leases.overdue(999, 1000) == []
    assert [one.task for one in leases.overdue(1000, 1000)] == ["t1"]
    assert [one.task for one in leases.overdue(1500, 1000)] == ["t2"]
    assert [one.task for one in leases.overdue(2000, 1000)] == ["t1"]


def test_what_was_accepted_is_never_overdue() -> None:
    leases = Leases()
    leases.hold(lease("t1", at=0))
    leases.hold(lease("t1", at=5, accepted=True))
    assert leases.overdue(10**9, 1000) == []
    assert leases.count("w1") == 1


def test_what_was_released_is_never_overdue() -> None:
    leases = Leases()
    leases.hold(lease("t1", at=0))
    leases.release("t1")
    assert leases.overdue(10**9, 1000) == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["w1", "w2", None]), st.booleans()),
        max_size=30,
    )
)
def test_the_books_agree_whatever_is_held_and_released(steps: list[tuple[str, str | None, bool]]) -> None:
    leases = Leases()
    truth: dict[str, Lease] = {}
    for now, (task, worker, accepted) in enumerate(steps):
        if worker is None:
            assert leases.release(task) == truth.pop(task, None)
        else:
            truth[task] = lease(task, worker, at=now, accepted=accepted)
            leases.hold(truth[task])
    for worker in ("w1", "w2"):
        assert {one.task for one in leases.of(worker)} == {t for t, one in truth.items() if one.worker == worker}
        assert leases.count(worker) == len(leases.of(worker))
    due = leases.overdue(10**6, 1)
    assert sorted(one.task for one in due) == sorted(task for task, one in truth.items() if not one.accepted)


# -- what a worker answers for -----------------------------------------------------------------------------------------


def test_what_a_worker_names_is_taken_though_its_journal_has_not_told_yet() -> None:
    leases = Leases()
    for task in ("t1", "t2", "t3"):
        leases.hold(lease(task, at=0))
    leases.name("w1", {("t2", 1), ("t3", 2)}, ("st", 7))  # of t3 another attempt
    assert [one.task for one in leases.overdue(1000, 1000)] == ["t1", "t3"]
    assert [(one.task, one.mark) for one in leases.unnamed("w1", ())] == [("t2", ("st", 7))]
    leases.name("w1", {("t2", 1)}, ("st", 9))
    assert [one.mark for one in leases.unnamed("w1", ())] == [("st", 7)]  # it was accepted before the first


def test_a_hello_begins_anew_with_what_the_journal_has_not_told() -> None:
    leases = Leases()
    leases.hold(lease("t1", at=0))
    leases.hold(lease("t2", "w2", at=0))
    leases.hold(lease("t3", at=0, accepted=True))
    leases.name("w1", {("t1", 1)}, ("st", 7))
    leases.begin_anew("w1", now=700)
    assert [one.task for one in leases.overdue(1000, 1000)] == ["t2"]
    assert [one.task for one in leases.overdue(1700, 1000)] == ["t1"]
    assert [one.task for one in leases.unnamed("w1", ())] == ["t3"]


def test_for_a_time_in_which_nobody_could_be_heard_everybody_is_forgiven() -> None:
    leases = Leases()
    leases.hold(lease("t1", at=0))
    leases.forgive(900)
    assert leases.overdue(1800, 1000) == []
    assert [one.task for one in leases.overdue(1900, 1000)] == ["t1"]


def test_what_was_sent_again_is_counted_and_keeps_its_deadline() -> None:
    leases = Leases()
    leases.hold(lease("t1", at=0))
    leases.hold(lease("t2", at=500))
    leases.hold(lease("t3", at=0, accepted=True))
    leases.sent_again(["t1", "t3", "gone"])
    (due,) = leases.overdue(1000, 1000)
    assert (due.task, due.sends) == ("t1", 1)
    assert leases.get("t3") == lease("t3", at=0, accepted=True)


def test_what_was_postponed_is_counted_and_keeps_its_deadline() -> None:
    leases = Leases()
    leases.hold(lease("t1", at=0))
    leases.postpone("t1")
    leases.postpone("gone")
    (due,) = leases.overdue(1000, 1000)
    assert (due.task, due.postponed, due.sends) == ("t1", 1, 0)


def test_what_is_accepted_and_not_named_is_judged_by_its_mark() -> None:
    leases = Leases()
    leases.hold(lease("early", accepted=True))
    leases.mark("w1", "st", 7)
    leases.hold(lease("late", accepted=True))
    leases.hold(lease("sent"))
    leases.mark("w1", "st", 9)  # what has a mark keeps it
    unnamed = {one.task: one.mark for one in leases.unnamed("w1", {("other", 1)})}
    assert unnamed == {"early": ("st", 7), "late": ("st", 9)}
    assert [one.task for one in leases.unnamed("w1", {("early", 1)})] == ["late"]


def test_a_mark_is_before_what_a_journal_held_then() -> None:
    assert is_before(("st", 7), "st", 7)
    assert not is_before(("st", 8), "st", 7)
    assert is_before(("old", 8), "st", 7)  # of a journal that is no more
    assert not is_before(None, "st", 7)
