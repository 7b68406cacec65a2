"""How the journal goes up: in order, and until each receipt is there."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, strategies as st

from edge_agent.rules import flow as rules
from edge_agent.rules.flow import Flow


def opened(through: int = 0) -> Flow:
    return rules.on_sync(Flow(), through, None)


def test_nothing_is_sent_before_a_sync_or_while_the_hub_is_away() -> None:
    assert not rules.may_send(Flow())
    assert not rules.may_send(rules.on_hub_away(opened()))


def test_a_window_of_batches_is_in_flight() -> None:
    flow = opened()
    for number in range(rules.WINDOW_BATCHES):
        assert rules.may_send(flow)
        flow = rules.on_sent(flow, number + 1, number + 1, now=0)
    assert not rules.may_send(flow)
    assert rules.may_send(rules.on_receipt(flow, 1, now=1))


def test_a_silence_sends_everything_again_with_more_patience() -> None:
    flow = rules.on_sent(rules.on_sent(opened(), 1, 5, now=0), 6, 9, now=1)
    assert rules.on_tick(flow, now=9.9) is flow
    again = rules.on_tick(flow, now=10)
    assert (again.cursor, again.flights, again.silences) == (1, (), 1)
    assert rules.deadline(rules.on_sent(again, 1, 9, now=10)) == 30


def test_what_was_dropped_before_a_batch_is_told_again_with_it() -> None:
    flow = rules.on_sent(opened(through=100), 150, 160, now=0)  # 101 to 149 are gone from the journal
    assert rules.on_tick(flow, now=10).cursor == 101


def test_a_receipt_ends_the_row_of_silences_and_begins_patience_anew() -> None:
    flow = rules.on_sent(
        rules.on_sent(rules.on_tick(rules.on_sent(opened(), 1, 5, now=0), now=10), 1, 5, now=10), 6, 9, now=10
    )
    flow = rules.on_receipt(flow, 5, now=25)
    assert (flow.settled, flow.silences, rules.deadline(flow)) == (5, 0, 35)


def test_an_old_receipt_changes_nothing() -> None:
    flow = rules.on_receipt(rules.on_sent(opened(), 1, 5, now=0), 5, now=1)
    assert rules.on_receipt(flow, 3, now=2) is flow


def test_a_receipt_that_the_broker_kept_from_before_the_sync_settles_nothing() -> None:
    away = rules.on_hub_away(rules.on_sent(opened(), 1, 5, now=0))
    assert rules.on_receipt(away, 5, now=1) is away  # of a hub whose database was put back since, say


def test_a_receipt_for_a_part_leaves_the_rest() -> None:
    flow = rules.on_receipt(rules.on_sent(opened(), 1, 5, now=0), 3, now=1)
    assert [(flight.first, flight.last) for flight in flow.flights] == [(4, 5)]
    assert rules.on_tick(flow, now=100).cursor == 4


def test_a_sync_rewinds_to_where_the_hub_stands() -> None:
    flow = rules.on_sync(rules.on_sent(opened(), 1, 5, now=0), 2, None)
    assert (flow.cursor, flow.flights) == (3, ())


def test_credit_paces_and_is_given_back_for_what_is_sent_again() -> None:
    flow = rules.on_sent(rules.on_sync(Flow(), 0, 1), 1, 5, now=0)
    assert not rules.may_send(flow)
    assert rules.may_send(rules.on_credit(flow, 2))
    assert rules.may_send(rules.on_tick(flow, now=10))


@dataclass
class Hub:
    """A hub by the contract: it skips what it has, refuses what leaves a hole, and says where it stands."""

    through: int = 0
    committed: list[int] = field(default_factory=list)

    def take(self, first: int, last: int) -> int:
        if first <= self.through + 1 <= last:
            self.committed.extend(range(self.through + 1, last + 1))
            self.through = last
        return self.through


@given(
    total=st.integers(1, 40),
    size=st.integers(1, 7),
    fates=st.lists(st.sampled_from(["ok", "batch lost", "receipt lost", "twice", "late", "sync"]), max_size=80),
)
def test_whatever_is_lost_or_doubled_everything_arrives_once_and_in_order(
    total: int, size: int, fates: list[str]
) -> None:
    hub, flow, now = Hub(), opened(), 0.0
    late: list[int] = []
    fate = iter([*fates, *["ok"] * 200])
    while flow.settled < total:
        now += 1
        if not (rules.may_send(flow) and flow.cursor <= total):
            now += rules.MAX_RECEIPT_TIMEOUT_SECONDS
            flow = rules.on_tick(flow, now)
            continue
        first, last = flow.cursor, min(total, flow.cursor + size - 1)
        flow = rules.on_sent(flow, first, last, now)
        match next(fate):
            case "ok":
                flow = rules.on_receipt(flow, hub.take(first, last), now)
            case "receipt lost":
                hub.take(first, last)
            case "twice":
                receipts = [hub.take(first, last), hub.take(first, last)]
                for through in receipts:
                    flow = rules.on_receipt(flow, through, now)
            case "late":
                late.append(hub.take(first, last))
                flow = rules.on_receipt(flow, late[0], now)
            case "sync":
                flow = rules.on_sync(rules.on_hub_away(flow), hub.through, None)
        assert flow.settled <= hub.through  # nothing is settled that the hub has not committed
    assert hub.committed == list(range(1, total + 1))
