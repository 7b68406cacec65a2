"""What of a flood of refusals is kept."""

from __future__ import annotations

from hub.rules.audit import Entry, Outcome
from hub.rules.refusals import FLOOD, Refusals


def refusal(target: str = "GET /api/tasks", who: str = "anonymous") -> Entry:
    return Entry(who, "request.refused", target, Outcome.REFUSED, address="10.0.0.1", detail="shows nothing")


def test_the_first_is_told_at_once_and_how_many_more_at_the_end_of_the_window() -> None:
    refusals = Refusals(window_ms=1000)
    assert refusals.count(refusal(), 0) == [refusal()]
    assert [refusals.count(refusal(), now) for now in (1, 2, 999)] == [[], [], []]
    assert refusals.due(999) == []
    assert refusals.due(1000) == [refusal()._replace(detail="3 more within 1 s: shows nothing")]
    assert refusals.due(5000) == []


def test_one_alone_is_told_once() -> None:
    refusals = Refusals(window_ms=1000)
    refusals.count(refusal(), 0)
    assert refusals.close() == []


def test_the_next_window_begins_anew() -> None:
    refusals = Refusals(window_ms=1000)
    refusals.count(refusal(), 0)
    refusals.count(refusal(), 1)
    more = refusal()._replace(detail="1 more within 1 s: shows nothing")
    assert refusals.count(refusal(), 1500) == [more, refusal()]
    assert refusals.due(2499) == []


def test_sorts_are_told_apart() -> None:
    refusals = Refusals()
    assert refusals.count(refusal(), 0) == [refusal()]
    assert refusals.count(refusal(who="token:ci"), 0) == [refusal(who="token:ci")]


def test_a_flood_of_sorts_is_one_line_more() -> None:
    refusals = Refusals(window_ms=1000, sorts=4)
    told = [line for number in range(10_000) for line in refusals.count(refusal(f"GET /{number}"), 0)]
    assert len(told) == 4
    (flood,) = refusals.close()
    assert (flood.action, flood.detail) == (FLOOD, "9996 of other sorts within 1 s")
