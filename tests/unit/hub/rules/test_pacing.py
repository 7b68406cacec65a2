"""Who may send how much of its history: nobody starves, the budget holds, all end unlimited (DESIGN §5)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings, strategies as st

from hub.rules.pacing import BATCH_EVENTS, PATIENCE_MS, Grant, Pacing

if TYPE_CHECKING:
    from random import Random

BATCH = BATCH_EVENTS


def test_who_has_little_to_tell_is_not_paced() -> None:
    assert Pacing().begin("w1", "st", newest=BATCH, through=0, now=0) is None
    assert Pacing().begin("w1", "st", newest=10_000, through=10_000 - BATCH, now=0) is None


def test_a_history_begins_with_a_share_and_gets_a_batch_for_a_batch() -> None:
    pacing = Pacing(budget=8, share=4)
    assert pacing.begin("w1", "st", newest=9 * BATCH, through=0, now=0) == 4
    assert pacing.committed("w1", "st", BATCH, now=1) == [Grant("w1", 1)]


def test_a_history_that_is_committed_has_no_limit_any_more() -> None:
    pacing = Pacing()
    pacing.begin("w1", "st", newest=2 * BATCH, through=0, now=0)
    assert pacing.committed("w1", "st", 2 * BATCH, now=1) == [Grant("w1", None)]
    assert pacing.committed("w1", "st", 3 * BATCH, now=2) == []
    assert pacing.outstanding == 0


def test_who_comes_when_the_budget_is_spent_waits_for_its_turn() -> None:
    pacing = Pacing(budget=4, share=4)
    assert [pacing.begin(name, "st", newest=9 * BATCH, through=0, now=0) for name in ("w1", "w2", "w3")] == [4, 0, 0]
    granted = [pacing.committed("w1", "st", number * BATCH, now=number)[0].worker for number in (1, 2, 3)]
    assert granted == ["w2", "w3", "w2"]  # w1 has one left


def test_what_another_stream_brings_is_not_counted() -> None:
    pacing = Pacing(budget=4, share=4)
    pacing.begin("w1", "st", newest=9 * BATCH, through=0, now=0)
    assert pacing.committed("w1", "old", 10 * BATCH, now=1) == []


def test_the_credit_of_who_is_gone_goes_to_who_waits() -> None:
    pacing = Pacing(budget=4, share=4)
    pacing.begin("w1", "st", newest=9 * BATCH, through=0, now=0)
    pacing.begin("w2", "st", newest=9 * BATCH, through=0, now=0)
    assert pacing.gone("w1", now=1) == [Grant("w2", 4)]
    assert pacing.gone("w1", now=2) == []


def test_a_new_hello_forgets_what_the_last_had() -> None:
    pacing = Pacing(budget=4, share=4)
    pacing.begin("w1", "st", newest=9 * BATCH, through=0, now=0)
    assert pacing.begin("w1", "st", newest=9 * BATCH, through=0, now=1) == 4
    assert pacing.outstanding == 4


def test_who_is_back_without_a_hello_goes_on_and_is_unlimited_in_the_end() -> None:
    """As after a late will: the worker never knew that it was gone, and has no credit left."""
    pacing = Pacing(budget=4, share=4)
    pacing.begin("w1", "st", newest=3 * BATCH, through=0, now=0)
    assert pacing.gone("w1", now=1) == []
    assert pacing.committed("w1", "st", 2 * BATCH, now=2) == []  # what it had sent before
    assert pacing.back("w1", now=3) == [Grant("w1", 4)]
    assert pacing.back("w1", now=4) == []
    assert pacing.committed("w1", "st", 3 * BATCH, now=5) == [Grant("w1", None)]
    assert pacing.outstanding == 0


def test_credit_that_brings_nothing_is_given_again() -> None:
    pacing = Pacing(budget=4, share=4)
    pacing.begin("frozen", "st", newest=9 * BATCH, through=0, now=0)
    pacing.begin("waits", "st", newest=9 * BATCH, through=0, now=0)
    assert pacing.tick(PATIENCE_MS) == []
    assert pacing.tick(PATIENCE_MS + 1) == [Grant("frozen", 4)]  # its credit may have been lost, as a message
    assert pacing.tick(2 * PATIENCE_MS + 2) == [Grant("waits", 4)]


@dataclass
class Sender:
    """A worker as the pacing sees it: it sends a batch for each credit, until its history is told."""

    batches: int
    sent: int = 0
    committed: int = 0
    credit: int | None = 0
    under_way: deque[int] = field(default_factory=deque)

    def send(self) -> bool:
        if self.sent == self.batches or self.credit == 0:
            return False
        self.sent += 1
        self.under_way.append(self.sent)
        if self.credit is not None:
            self.credit -= 1
        return True


@settings(max_examples=200)
@given(
    histories=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    budget=st.integers(1, 9),
    share=st.integers(1, 5),
    turns=st.randoms(use_true_random=False),
)
def test_nobody_starves_the_budget_holds_and_all_end_unlimited(
    histories: list[int], budget: int, share: int, turns: Random
) -> None:
    pacing = Pacing(budget=budget, share=share)
    senders = {f"w{number}": Sender(batches) for number, batches in enumerate(histories)}
    for name, one in senders.items():
        one.credit = pacing.begin(name, "st", newest=one.batches * BATCH, through=0, now=0)

    def paced_under_way() -> int:
        return sum(len(one.under_way) + one.credit for one in senders.values() if one.credit is not None)

    waited: dict[str, int] = dict.fromkeys(senders, 0)
    while any(one.committed < one.batches for one in senders.values()):
        for one in senders.values():
            while one.send():
                pass
        assert paced_under_way() <= budget
        name = turns.choice([name for name, one in senders.items() if one.under_way])
        one = senders[name]
        one.committed = one.under_way.popleft()
        for worker, batches in pacing.committed(name, "st", one.committed * BATCH, now=0):
            told = senders[worker]
            told.credit = None if batches is None or told.credit is None else told.credit + batches
        for other, its in senders.items():
            waits = its.credit == 0 and not its.under_way and its.committed < its.batches
            waited[other] = waited[other] + 1 if waits else 0
            assert waited[other] <= len(senders) * max(histories)
    assert all(one.credit is None for one in senders.values())
    assert pacing.outstanding == 0
