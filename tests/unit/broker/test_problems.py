"""What a person reads when an input is wrong: the field, the value, what was expected."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, ValidationError

from broker.messages import TaskSubmission
from broker.problems import MAX_SHOWN_VALUE, NO_SUCH_FIELD, Problem, explain, path, shown


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "kind is missing: expected a value"),
        ('{"kind": 3}', "kind is 3: expected a text"),
        ('{"kind": "noop", "timeout_secs": 3}', "timeout_secs is 3: there is no such field"),
        ('{"kind": "noop", "timeout_seconds": -1}', "timeout_seconds is -1: expected a number above 0"),
        ('{"kind": "noop", "timeout_seconds": "5"}', 'timeout_seconds is "5": expected a number'),
        ('{"kind": "noop", "priority": 1.5}', "priority is 1.5: expected a whole number"),
        ('{"kind": "noop", "priority": 101}', "priority is 101: expected a whole number up to 100"),
        ('{"kind": "noop", "priority": -101}', "priority is -101: expected a whole number from -100"),
        ('{"kind": "noop", "idempotent": "yes"}', 'idempotent is "yes": expected true or false'),
        ('{"kind": "noop", "params": []}', "params is []: expected an object"),
        ('{"kind": "noop", "retry": 3}', "retry is 3: expected an object"),
        ('{"kind": "noop", "retry": {"max_attempts": 0}}', "retry.max_attempts is 0: expected a whole number from 1"),
        ('{"kind": "noop", "target": "some"}', "target is \"some\": expected 'one' or 'all'"),
        ('{"kind": "noop", "labels": {"team": 7}}', "labels.team is 7: expected a text"),
        (
            '{"kind": "noop", "requires": {"x": {"min": "lots"}}}',
            'requires.x.min is "lots": expected a number',
        ),
        ('{"kind": "noop", "requires": {"x": {"max": true}}}', "requires.x.max is true: expected a number"),
        (
            '{"kind": "noop", "requires": {"x": {"in": ["a", null]}}}',
            "requires.x.in[1] is null: expected true, false, a number or a text",
        ),
        (
            '{"kind": "noop", "requires": {"x": [1]}}',
            'requires.x is [1]: expected true, false, a number, a text, or an object of "min", "max" and "in"',
        ),
        ('{"kind": "noop", "requires": {"x": {"in": []}}}', "requires.x.in is []: expected at least 1 items"),
        (
            '{"kind": "No Op"}',
            'kind is "No Op": expected a text that matches ^[a-z][a-z0-9_.-]{0,62}$',
        ),
        ("[]", "body is []: expected an object"),
        ("nonsense", 'body is "nonsense": expected valid JSON (expected ident at line 1 column 2)'),
    ],
)
def test_a_wrong_task_is_explained(body: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskSubmission.model_validate_json(body)
    assert str(explain(caught.value)[0]) == words


class Size(BaseModel):
    width: int


class Shape(BaseModel):
    of: int | list[int] | Size


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("x", ['of is "x": expected a whole number or an array or an object']),
        ([1, "x"], ['of is [1, "x"]: expected a whole number or an object', 'of[1] is "x": expected a whole number']),
        (
            {"width": "x"},
            ['of is {"width": "x"}: expected a whole number or an array', 'of.width is "x": expected a whole number'],
        ),
        ({}, ["of is {}: expected a whole number or an array", "of.width is missing: expected a value"]),
    ],
)
def test_what_the_members_of_a_union_expect_is_put_together(of: object, words: list[str]) -> None:
    given = {"of": of}
    with pytest.raises(ValidationError) as caught:
        Shape.model_validate(given, strict=True)
    assert [str(one) for one in explain(caught.value, given=given)] == words


def test_a_location_is_written_as_people_write_it() -> None:
    assert path(("requires", "<bound>", "memory_mb", 0), "body") == "requires.memory_mb[0]"
    assert path((), "body") == "body"
    assert path((3, "kind"), "body") == "[3].kind"


def test_a_prefix_says_where_the_model_stood() -> None:
    with pytest.raises(ValidationError) as caught:
        TaskSubmission.model_validate_json("{}")
    assert explain(caught.value, prefix=(4,))[0].field == "[4].kind"


@given(st.recursive(st.none() | st.text() | st.floats() | st.binary(), lambda inner: st.lists(inner, max_size=3)))
def test_any_value_can_be_shown_and_none_is_long(value: object) -> None:
    assert 0 < len(shown(value)) <= MAX_SHOWN_VALUE


def test_a_cut_value_says_that_it_is_cut() -> None:
    assert shown("x" * 500).endswith("…")
    assert not shown("x" * 100).endswith("…")


def test_bytes_that_are_no_utf_8_are_shown_escaped() -> None:
    assert "\\xff" in shown(b"\xffabc")


def test_a_problem_is_the_same_in_words_and_as_data() -> None:
    problem = Problem("timeout_secs", "5", NO_SUCH_FIELD)
    assert problem.as_dict() == {
        "field": "timeout_secs",
        "value": "5",
        "expected": NO_SUCH_FIELD,
        "message": "timeout_secs is 5: there is no such field",
    }
