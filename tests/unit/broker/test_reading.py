"""What a tasks topic carries: one task or many, each good or refused on its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from broker.messages import MAX_MESSAGE_BYTES, MAX_REJECTED_BYTES, Assignment, TaskRequest, TaskSpec, encode
from broker.reading import Refused, excerpt, read_site_tasks, read_submissions, read_worker_tasks
from tests.support.specs import JSON_VALUES, SPECS

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD = b'{"kind": "noop"}'


def refusal(read: Sequence[object]) -> Refused:
    (one,) = read
    assert isinstance(one, Refused)
    assert one.problems
    return one


def test_one_task_or_an_array_of_them() -> None:
    assert read_site_tasks(GOOD) == [TaskRequest(kind="noop")]
    assert read_site_tasks(b" \n[" + GOOD + b"," + GOOD + b"]") == [TaskRequest(kind="noop")] * 2


@pytest.mark.parametrize(
    ("payload", "field", "words"),
    [
        (b"", "message", "valid JSON"),
        (b" ", "message", "valid JSON"),
        (b"not json", "message", "valid JSON"),
        (b'{"kind": "noop"', "message", "valid JSON"),
        (b'{"kind": "noop"} {"kind": "noop"}', "message", "valid JSON"),
        (b"[" + GOOD, "message", "valid JSON"),
        (b"[]", "message", "at least one task"),
        (b" [ ] ", "message", "at least one task"),
        (b"[[]]", "message", "at least one task"),
        (b"null", "message", "an object"),
        (b"3", "message", "an object"),
        (b'"noop"', "message", "an object"),
        (b"\xff\xfe", "message", "valid JSON"),
        (b'{"kind": "\xff"}', "message", "valid JSON"),
        (b'{"kind": "\\ud800"}', "message", "valid JSON"),
        (b'{"kind": "noop", "params": {"x": NaN}}', "params.x", "finite"),
        (b'{"kind": "noop", "params": {"x": 1e999}}', "params.x", "finite"),
        (b'{"kind": "noop", "params": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "message", "valid JSON"),
        (b'{"kind": "noop", "params": {"x": ' + b"9" * 5000 + b"}}", "message", "valid JSON"),
        (b'{"kind": "noop", "attempt": 1}', "attempt", "no such field"),
        (b'{"kind": "noop", "site": "site-b"}', "site", "no such field"),
        (b'{"kind": "noop", "timeout_seconds": -1}', "timeout_seconds", "above 0"),
        (b'[[{"kind": "noop"}]]', "[0]", "an object"),
        (b'[{"kind": "noop", "params": {"x": NaN}}]', "[0].params.x", "finite"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else None,
)
def test_what_is_no_task_says_why(payload: bytes, field: str, words: str) -> None:
    refused = refusal(read_site_tasks(payload))
    assert refused.problems[0].field.startswith(field)
    assert words in refused.problems[0].expected
    assert refused.payload in (excerpt(payload), refused.payload[:MAX_REJECTED_BYTES])


def test_a_bad_element_does_not_take_the_good_ones_with_it() -> None:
    read = read_site_tasks(b'[{"kind": "noop", "id": "a"}, 7, {"kind": "noop", "id": "b", "x": 1}, {"kind": "sleep"}]')
    assert read[0] == TaskRequest(kind="noop", id="a")
    assert read[3] == TaskRequest(kind="sleep")
    seven, misspelt = read[1], read[2]
    assert isinstance(seven, Refused)
    assert (seven.position, seven.task, seven.reason) == (1, None, "[1] is 7: expected an object")
    assert isinstance(misspelt, Refused)
    assert (misspelt.position, misspelt.task, misspelt.reason) == (2, "b", "[2].x is 1: there is no such field")
    assert json.loads(misspelt.payload) == {"kind": "noop", "id": "b", "x": 1}


def test_everything_that_is_wrong_is_told_at_once() -> None:
    refused = refusal(read_site_tasks(b'{"id": "t1", "priority": 1000, "x": 1}'))
    assert {problem.field for problem in refused.problems} == {"kind", "priority", "x"}
    assert refused.task == "t1"


def test_a_mebibyte_is_too_long_and_only_its_first_kib_is_kept() -> None:
    refused = refusal(read_site_tasks(b'{"kind": "noop", "params": {"x": "' + b"y" * 2**20 + b'"}}'))
    assert refused.reason == f"message is {2**20 + 37} bytes long: expected at most {MAX_MESSAGE_BYTES} bytes"
    assert len(refused.payload) == MAX_REJECTED_BYTES


def test_the_largest_message_passes() -> None:
    frame = b'{"kind":"noop","params":{"x":""}}'
    payload = frame.replace(b'""', b'"' + b"y" * (MAX_MESSAGE_BYTES - len(frame)) + b'"')
    assert len(payload) == MAX_MESSAGE_BYTES
    assert isinstance(read_site_tasks(payload)[0], TaskRequest)
    assert refusal(read_site_tasks(payload + b" ")).problems[0].field == "message"


def test_what_the_largest_request_becomes_still_reaches_its_worker() -> None:
    frame = b'{"kind":"noop","params":{"x":""}}'
    payload = frame.replace(b'""', b'"' + b"y" * (MAX_MESSAGE_BYTES - len(frame)) + b'"')
    (request,) = read_site_tasks(payload)
    assert isinstance(request, TaskRequest)
    whole = Assignment(**dict(request.spec()), id="x" * 128, attempt=10**9)
    assert read_worker_tasks(b"[" + encode(whole) + b"]") == [whole]


def test_a_worker_topic_carries_both_kinds() -> None:
    read = read_worker_tasks(b'[{"kind": "noop", "id": "t1", "attempt": 3}, {"kind": "noop"}, {"attempt": 1}]')
    assert read[:2] == [Assignment(kind="noop", id="t1", attempt=3), TaskRequest(kind="noop")]
    assert isinstance(read[2], Refused)
    assert {problem.field for problem in read[2].problems} == {"[2].kind", "[2].id"}


def test_posted_tasks_have_a_limit_of_their_own() -> None:
    assert refusal(read_submissions(GOOD, 5)).problems[0].expected == "at most 5 bytes"
    assert len(read_submissions(b'[{"kind": "noop", "site": "site-a"}]', 100)) == 1


@given(st.lists(SPECS, min_size=1, max_size=4))
def test_whatever_is_encoded_is_read_as_it_was(specs: list[TaskSpec]) -> None:
    requests = [TaskRequest(**dict(spec)) for spec in specs]
    assert read_site_tasks(encode(requests)) == requests
    assert read_site_tasks(encode(requests[0])) == requests[:1]


@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_input_raises_and_each_refusal_names_a_field(payload: bytes) -> None:
    for one in (*read_site_tasks(payload), *read_worker_tasks(payload)):
        if isinstance(one, Refused):
            assert all(problem.field and problem.expected for problem in one.problems)
            assert len(one.payload.encode("utf-8")) <= 4 * MAX_REJECTED_BYTES
