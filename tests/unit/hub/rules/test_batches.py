"""Batches: numbers with holes, batches lost and repeated, and events that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from broker.errors import InvalidInput
from broker.messages import AnyEvent, Batch, Dropped, FactObserved
from hub.rules.batches import Unreadable, fresh, read_batch

NOW = 99
FACT = {"type": "fact.observed", "at": 5, "subject": "s", "name": "n", "value": 1}


def fact(number: int) -> FactObserved:
    return FactObserved(at=5, subject="s", name="n", value=number)


def batch(first: int, *events: AnyEvent, after: int | None = None, numbers: tuple[int, ...] | None = None) -> Batch:
    return Batch(stream="st", first=first, events=events, after=after, numbers=numbers)


def payload(*events: object, **header: object) -> bytes:
    return json.dumps({"stream": "st", "first": 1, "events": events, **header}).encode()


# -- what is new ------------------------------------------------------------------------------------------------------


def test_a_batch_behind_a_hole_is_not_new() -> None:
    assert fresh(batch(3, fact(3)), mark=1) == []


def test_a_batch_whose_hole_nobody_can_fill_is_new() -> None:
    assert fresh(batch(7, fact(7), after=2), mark=2) == [(7, fact(7))]
    assert fresh(batch(7, fact(7), after=2), mark=1) == []


def test_of_a_batch_with_holes_the_numbers_count() -> None:
    holes = batch(3, fact(3), fact(8), fact(9), numbers=(3, 8, 9))
    assert fresh(holes, mark=2) == [(3, fact(3)), (8, fact(8)), (9, fact(9))]
    assert fresh(holes, mark=5) == [(8, fact(8)), (9, fact(9))]
    assert fresh(holes, mark=9) == []


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Batch], set[int]]:
    """Cut a journal into batches while rows of it are dropped; the last cut is of all that is left, in order."""
    rows = list(range(1, draw(st.integers(2, 30)) + 1))
    newest = rows[-1]
    sent: list[Batch] = []

    def cut(cursor: int, size: int) -> Batch:
        numbers = tuple([row for row in rows if row >= cursor][:size])
        return batch(numbers[0], *map(fact, numbers), after=cursor - 1, numbers=numbers)

    for _ in range(draw(st.integers(0, 12))):
        sent.append(cut(draw(st.integers(1, newest)), draw(st.integers(1, 8))))
        for gone in draw(st.sets(st.sampled_from(rows), max_size=4)) - {newest}:
            rows.remove(gone)
    sent = draw(st.lists(st.sampled_from(sent), max_size=20)) if sent else []
    cursor, size = 1, draw(st.integers(1, 8))
    while cursor <= newest:
        sent.append(cut(cursor, size))
        cursor = sent[-1].last + 1
    return sent, set(rows)


@given(deliveries())
def test_in_any_order_and_however_often_each_event_counts_once_and_in_order(
    delivered: tuple[list[Batch], set[int]],
) -> None:
    batches, never_dropped = delivered
    mark, taken = 0, []
    for one in batches:
        new = fresh(one, mark)
        taken += new
        mark = one.last if new else mark
    numbers = [number for number, _ in taken]
    assert numbers == sorted(set(numbers))
    assert never_dropped <= set(numbers)
    assert [event for _, event in taken] == [fact(number) for number in numbers]


# -- what can be read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "task.paused", "at": 7, "task": "t"}, "expected 'type' to be one of"),
        ({"type": "task.finished", "at": 7, "task": "t", "attempt": 1, "outcome": "melted"}, 'outcome is "melted"'),
        ({"at": 7}, "an object with 'type'"),
        (7, "event is 7: expected an object"),
        (None, "event is null"),
        ({**FACT, "at": 10**30}, "fact.observed.at"),
        ({"type": "task.finished", "at": 7, "task": "t", "attempt": 10**30, "outcome": "failed"}, "attempt"),
    ],
)
def test_an_event_that_cannot_be_read_is_kept_and_the_others_are_read(event: object, reason: str) -> None:
    read = read_batch(payload(FACT, event, FACT, first=4), NOW)
    good, bad, also_good = read.events
    assert isinstance(bad, Unreadable)
    assert (read.last, bad.dropped, bad.count, json.loads(bad.event)) == (6, Dropped.UNREADABLE, 1, event)
    assert reason in bad.reason
    assert good == also_good == FactObserved.model_validate_json(json.dumps(FACT))


@pytest.mark.parametrize(
    ("events", "at"),
    [
        ([{"at": 7}], 7),
        ([FACT, {}], 5),
        ([{}], NOW),
        ([{"at": -1}], NOW),
        ([{"at": True}], NOW),
        ([{"at": "x"}], NOW),
        ([{"at": 10**30}], NOW),
    ],
)
def test_it_is_dated_as_it_says_or_as_the_one_before(events: list[Any], at: int) -> None:
    assert read_batch(payload(*events), NOW).events[-1].at == at


def test_a_result_that_is_no_json_is_not_read_as_null() -> None:
    finished = b'{"type": "task.finished", "at": 7, "task": "t", "attempt": 1, "outcome": "succeeded", "result": NaN}'
    (event,) = read_batch(b'{"stream": "st", "first": 1, "events": [' + finished + b"]}", NOW).events
    assert type(event) is Unreadable


def test_a_batch_with_holes_is_read_event_by_event_too() -> None:
    read = read_batch(payload(7, FACT, first=3, numbers=[3, 9], after=1), NOW)
    assert [number for number, _ in read.numbered()] == [3, 9]
    assert read.follows == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b"\xff",
        b'{"stream": "st", "first": 1}',
        payload(),
        payload(FACT, first=0),
        payload(7, first=0),
        payload(7, first="1"),
        payload(FACT, stream=None),
        payload(7, numbers=[1, 2]),
        payload(7, FACT, numbers=[2, 1]),
        payload(7, after=1),
        payload(7, meaning="another"),
        payload(FACT, first=10**30),
        payload(7, numbers="1"),
    ],
)
def test_what_is_no_batch_is_refused_whole(bad: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_batch(bad, NOW)
