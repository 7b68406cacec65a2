"""How assignments are put together for the wire."""

from __future__ import annotations

import json

from hypothesis import given, strategies as st

from broker.messages import MAX_MESSAGE_BYTES
from hub.courier import arrays


def test_what_is_for_one_worker_goes_together() -> None:
    assert list(arrays(['{"id": 1}', '{"id": 2}'])) == [b'[{"id": 1},{"id": 2}]']
    assert list(arrays([])) == []


@given(st.lists(st.integers(1, MAX_MESSAGE_BYTES - 4), max_size=8))
def test_no_message_is_larger_than_one_may_be_and_the_order_stays(sizes: list[int]) -> None:
    payloads = [json.dumps(number % 10 * "é", ensure_ascii=False).ljust(size) for number, size in enumerate(sizes)]
    fitting = [one for one in payloads if len(one.encode()) <= MAX_MESSAGE_BYTES - 2]
    messages = list(arrays(fitting))
    assert all(len(message) <= MAX_MESSAGE_BYTES for message in messages)
    assert [one for message in messages for one in json.loads(message)] == [json.loads(one) for one in fitting]


def test_a_message_holds_as_many_as_it_can() -> None:
    half = json.dumps("x" * (MAX_MESSAGE_BYTES // 2 - 4))
    assert [len(json.loads(message)) for message in arrays([half, half, half])] == [2, 1]
