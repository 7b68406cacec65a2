"""What an answer must be, and what is said of one that is not."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pydantic import ValidationError

from broker.problems import explain
from edge_agent.rules.expectations import Expect, HttpAnswer, unmet

BODY = json.dumps(
    {"status": "ok", "free": 12, "ready": True, "checks": [{"name": "db"}], "a/b": {"~": None}, "": 1}
).encode()


def expect(**given: Any) -> Expect:  # noqa: ANN401  any field
    return Expect.model_validate(given)


@pytest.mark.parametrize(
    ("status", "met"),
    [
        ({}, [200, 204, 299]),
        ({"status": 404}, [404]),
        ({"status": "3xx"}, [301, 308]),
        ({"status": [200, "4xx"]}, [200, 404]),
    ],
)
def test_a_status_is_met_as_a_number_or_a_class(status: dict[str, Any], met: list[int]) -> None:
    codes = [200, 204, 299, 301, 308, 404, 503]
    assert [code for code in codes if not unmet(expect(**status), HttpAnswer(status=code))] == met


def test_what_was_expected_and_found_is_said() -> None:
    answer = HttpAnswer(status=503, body=b'{"status": "down"}', elapsed_ms=2500)
    wanted = expect(status=[200, "3xx"], contains="ok", json={"/status": "ok", "/x": 1}, within_seconds=2)
    assert unmet(wanted, answer) == [
        "status is 503, expected one of 200, 3xx",
        "the body does not contain 'ok'",
        '/status is "down", expected "ok"',
        "/x is missing, expected 1",
        "it took 2.5 s, expected at most 2 s",
    ]


@pytest.mark.parametrize(
    "pointers",
    [
        {"/status": "ok", "/free": 12.0, "/ready": True},
        {"/checks/0/name": "db", "/checks": [{"name": "db"}]},
        {"/a~1b/~0": None, "/": 1},
        {"": json.loads(BODY)},
    ],
)
def test_values_in_json_are_found_by_pointer(pointers: dict[str, Any]) -> None:
    assert unmet(expect(json=pointers), HttpAnswer(status=200, body=BODY)) == []


@pytest.mark.parametrize(
    ("pointer", "value", "reason"),
    [
        ("/ready", 1, "/ready is true, expected 1"),
        ("/free", True, "/free is 12, expected true"),
        ("/checks/1", {}, "/checks/1 is missing, expected {}"),
        ("/checks/-1/name", "db", '/checks/-1/name is missing, expected "db"'),
        ("/checks/00", {}, "/checks/00 is missing, expected {}"),
        ("/status/0", "o", '/status/0 is missing, expected "o"'),
        ("/a~1b", {"~": False}, '/a~1b is {"~": null}, expected {"~": false}'),
        ("/checks", [], '/checks is [{"name": "db"}], expected []'),
    ],
)
def test_a_value_that_is_another_is_named(pointer: str, value: object, reason: str) -> None:
    assert unmet(expect(json={pointer: value}), HttpAnswer(status=200, body=BODY)) == [reason]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HttpAnswer(status=200, body=b"<html>"), "the body is no JSON ("),
        (HttpAnswer(status=200, body=b"[" * 100_000), "the body is no JSON ("),
        (HttpAnswer(status=200, body=b"{}", is_whole=False), "the body is longer than 2 bytes, too long"),
        (HttpAnswer(status=200, body=b"\x1f\x8b", encoding="gzip"), "the body is encoded as gzip"),
    ],
)
def test_a_body_that_cannot_be_looked_into_is_no_surprise(answer: HttpAnswer, reason: str) -> None:
    (said,) = unmet(expect(json={"/a": 1}), answer)
    assert said.startswith(reason)


def test_a_text_is_looked_for_in_the_charset_of_the_answer() -> None:
    answer = HttpAnswer(status=200, body="grün".encode("latin-1"), charset="ISO-8859-1")
    assert unmet(expect(contains="grün"), answer) == []
    assert unmet(expect(contains="gr"), HttpAnswer(status=200, body=b"gr\xff", charset="rot13")) == []
    assert unmet(expect(contains="x"), HttpAnswer(status=200, body=b"gr", is_whole=False)) == [
        "the body does not contain 'x' in its first 2 bytes"
    ]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"status": "200"}, 'expect.status is "200": expected a status such as 200'),
        ({"status": 99}, "expect.status is 99: expected a status such as 200"),
        ({"status": True}, "expect.status is true: expected a status such as 200"),
        ({"status": []}, "expect.status is []: expected a status such as 200"),
        ({"json": {"status": "ok"}}, 'expect.json is {"status": "ok"}: expected a JSON Pointer for each key'),
        ({"within_seconds": 0}, "expect.within_seconds is 0: expected a number above 0"),
        ({"contain": "x"}, 'expect.contain is "x": there is no such field'),
    ],
)
def test_a_wrong_expectation_is_named(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError) as raised:
        expect(**given)
    assert str(explain(raised.value, prefix=("expect",))[0]).startswith(line)


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "raw-unicode-escape", "rot13", "none-such"])
def test_what_is_no_charset_is_not_tried(charset: str) -> None:
    answer = HttpAnswer(status=200, body=b"\\u0041-bcd" + b"a" * 1_000_000, charset=charset)
    began = time.process_time()
    assert answer.text.startswith("\\u0041-bcd")
    assert time.process_time() - began < 1.0, "a server must not keep the agent busy for minutes"


def test_a_charset_is_used() -> None:
    assert HttpAnswer(status=200, body=b"\xe4", charset="ISO-8859-1").text == "ä"
