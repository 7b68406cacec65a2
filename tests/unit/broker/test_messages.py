"""Messages are strict: what is misspelt, of another type or out of bounds is refused, never guessed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter, ValidationError

from broker.messages import (
    CONTROL,
    EVENT,
    ONE_WORKER_TASK,
    STATUS,
    Assignment,
    Batch,
    Birth,
    Bound,
    Farewell,
    Outcome,
    Receipt,
    ReplyTo,
    Sync,
    TaskFinished,
    TaskRequest,
    TaskSpec,
    TaskSubmission,
    assignment_json,
    digest,
    encode,
)
from tests.support.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST: TypeAdapter[TaskRequest] = TypeAdapter(TaskRequest)

BIRTH = {
    "state": "online",
    "session": "s1",
    "boot": "b1",
    "at": 1,
    "version": "0.1.0",
    "slots": 1,
    "kinds": ["noop"],
    "heartbeat_interval_seconds": 30,
    "session_expiry_seconds": 3600,
    "journal": {"stream": "st", "oldest": 1, "newest": 0},
}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": None},
        {"kind": ""},
        {"kind": "UPPER"},
        {"kind": "noop\n"},
        {"kind": "a" * 64},
        {"id": ""},
        {"id": "a/b"},
        {"id": "-a"},
        {"id": "a\n"},
        {"id": "x" * 129},
        {"id": 7},
        {"params": None},
        {"params": "x"},
        {"params": {"x": float("nan")}},
        {"params": {"x": [{"y": float("-inf")}]}},
        {"requires": {"": True}},
        {"requires": {"x": None}},
        {"requires": {"x": {"minimum": 1}}},
        {"requires": {"x": {"in": "abc"}}},
        {"requires": {"x": {"max": True}}},
        {"priority": "1"},
        {"priority": True},
        {"priority": 1.0},
        {"timeout_seconds": 0},
        {"timeout_seconds": "5"},
        {"timeout_seconds": float("inf")},
        {"timeout_seconds": 1e300},
        {"expires_in_seconds": -0.001},
        {"retry": None},
        {"retry": {"max_attempts": 101}},
        {"retry": {"backoff_seconds": -1}},
        {"retry": {"tries": 3}},
        {"idempotent": 1},
        {"idempotent": None},
        {"target": "each"},
        {"labels": {"a b": "x"}},
        {"labels": {"a": "x" * 257}},
        {"labels": {"a": None}},
        {"site": "site-a"},
        {"worker": "w1"},
        {"attempt": 1},
        {"reply": {"topic": "edge/v1/replies/me"}},
        {"timeout_secs": 5},
    ],
    ids=str,
)
def test_a_request_that_is_not_exactly_one_is_refused(change: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        REQUEST.validate_json(json.dumps({"kind": "noop", **change}))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"id": "a.b_c:d-9"},
        {"id": "x" * 128},
        {"kind": "camera.snapshot"},
        {"params": {"deep": [[[{"x": None}]]], "big": 10**30}},
        {"requires": {"docker": True, "arch": "arm64", "memory_mb": {"min": 512, "max": 1e6}, "n": 3, "f": 0.5}},
        {"requires": {"arch": {"in": ["arm64", 1, True]}}},
        {"priority": -100},
        {"priority": 100},
        {"timeout_seconds": 0.001},
        {"timeout_seconds": 5},
        {"retry": {"max_attempts": 100, "backoff_seconds": 0}},
        {"target": "all"},
        {"labels": {"team": ""}},
    ],
    ids=str,
)
def test_a_good_request_passes(change: Mapping[str, object]) -> None:
    assert REQUEST.validate_json(json.dumps({"kind": "noop", **change})).kind


@pytest.mark.parametrize("site", ["Site", "a/b", "a+", "#", "", "a\n", "a" * 64, 3])
def test_a_posted_task_names_a_site_that_can_be_a_topic(site: object) -> None:
    with pytest.raises(ValidationError):
        TaskSubmission.model_validate_json(json.dumps({"kind": "noop", "site": site}))


def test_only_the_hubs_tasks_have_an_attempt() -> None:
    assigned = ONE_WORKER_TASK.validate_json('{"kind": "noop", "id": "t1", "attempt": 2}')
    injected = ONE_WORKER_TASK.validate_json('{"kind": "noop", "id": "t1"}')
    assert isinstance(assigned, Assignment)
    assert isinstance(injected, TaskRequest)
    for attempt in (0, -1, "1", 1.5, None):
        with pytest.raises(ValidationError):
            ONE_WORKER_TASK.validate_json(json.dumps({"kind": "noop", "id": "t1", "attempt": attempt}))
    with pytest.raises(ValidationError):
        ONE_WORKER_TASK.validate_json('{"kind": "noop", "attempt": 1}')


@given(SPECS, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True), st.integers(1, 10**6), st.booleans())
def test_a_spliced_assignment_is_what_the_model_would_encode(
    spec: TaskSpec,
    task: str,
    attempt: int,
    asks: bool,  # noqa: FBT001
) -> None:
    reply = ReplyTo(topic="edge/v1/replies/me", correlation="aGk=") if asks else None
    spliced = assignment_json(
        spec.model_dump_json(by_alias=True, exclude_none=True),
        task,
        attempt,
        reply.model_dump_json(exclude_none=True) if reply else None,
    )
    whole = Assignment(**dict(spec), id=task, attempt=attempt, reply=reply)
    assert Assignment.model_validate_json(spliced) == whole
    assert json.loads(spliced) == json.loads(encode(whole))


@given(SPECS)
def test_a_spec_survives_the_way_there_and_back(spec: TaskSpec) -> None:
    assert TaskSpec.model_validate_json(encode(spec)) == spec


@given(SPECS)
def test_the_digest_is_of_what_is_to_be_done_and_where(spec: TaskSpec) -> None:
    request = TaskRequest(**dict(spec), id="t1")
    assert digest(request, "site-a", None) == digest(spec, "site-a", None)
    assert digest(spec, "site-a", None) != digest(spec, "site-b", None)
    assert digest(spec, "site-a", None) != digest(spec, None, "site-a")
    assert digest(spec) != digest(spec.model_copy(update={"priority": spec.priority + 1}))


def test_the_order_of_keys_makes_no_other_task() -> None:
    one = TaskSpec.model_validate({"kind": "noop", "params": {"a": 1, "b": {"c": 2, "d": 3}}})
    other = TaskSpec.model_validate({"kind": "noop", "params": {"b": {"d": 3, "c": 2}, "a": 1}})
    assert digest(one) == digest(other)


def test_the_order_of_a_list_does() -> None:
    one = TaskSpec.model_validate({"kind": "noop", "params": {"a": [1, 2]}})
    other = TaskSpec.model_validate({"kind": "noop", "params": {"a": [2, 1]}})
    assert digest(one) != digest(other)


def test_a_message_cannot_be_changed() -> None:
    spec = TaskSpec(kind="noop")
    with pytest.raises(ValidationError):
        spec.kind = "sleep"  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"state": "offline"},
        {"state": "ready"},
        {"session": None},
        {"slots": 0},
        {"kinds": "noop"},
        {"at": -1},
        {"at": 1.5},
        {"heartbeat_interval_seconds": 0},
        {"capabilities": {"x": [1]}},
        {"journal": {"stream": "st", "oldest": 0, "newest": 0}},
        {"held": [{"task": "t1", "attempt": 0}]},
        {"uptime": 3},
    ],
    ids=str,
)
def test_a_birth_that_is_not_exactly_one_is_refused(change: Mapping[str, object]) -> None:
    STATUS.validate_json(json.dumps(BIRTH))
    with pytest.raises(ValidationError):
        STATUS.validate_json(json.dumps({**BIRTH, **change}))


def test_a_status_is_a_birth_or_a_farewell() -> None:
    assert isinstance(STATUS.validate_json(json.dumps(BIRTH)), Birth)
    for state in ("offline", "stopped"):
        farewell = STATUS.validate_json(json.dumps({"state": state, "session": "s1"}))
        assert farewell == Farewell(state=state, session="s1")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "task.accepted", "at": 1, "task": "t1"},
        {"type": "task.accepted", "at": 1, "task": "t1", "attempt": 1, "worker": "w1"},
        {"type": "task.finished", "at": 1, "task": "t1", "attempt": 1, "outcome": "done"},
        {"type": "task.progress", "at": 1, "task": "t1", "attempt": 1, "fraction": 1.01},
        {"type": "task.exploded", "at": 1, "task": "t1", "attempt": 1},
        {"at": 1, "task": "t1", "attempt": 1},
        {"type": "gap", "at": 1, "dropped": "facts", "count": 0, "first_at": 1, "last_at": 1, "reason": "full"},
        {"type": "fact.observed", "at": 1, "subject": "", "name": "n", "value": 1},
    ],
    ids=str,
)
def test_an_event_that_is_none_is_refused(event: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_json(json.dumps(event))


def test_the_last_of_a_batch_is_counted_from_its_first() -> None:
    end = TaskFinished(at=1, task="t1", attempt=1, outcome=Outcome.SUCCEEDED)
    assert Batch(stream="st", first=101, events=(end, end, end)).last == 103


def test_an_empty_batch_is_none() -> None:
    with pytest.raises(ValidationError):
        Batch.model_validate_json('{"stream": "st", "first": 1, "events": []}')


def test_control_is_told_apart_by_its_type() -> None:
    sync = Sync(session="s1", stream="st", committed_through=7)
    receipt = Receipt(stream="st", through=7)
    assert [CONTROL.validate_json(encode(one)) for one in (sync, receipt)] == [sync, receipt]


def test_a_bound_is_written_with_the_word_in() -> None:
    assert encode(Bound.model_validate({"in": (1, "a")})) == b'{"in":[1,"a"]}'
