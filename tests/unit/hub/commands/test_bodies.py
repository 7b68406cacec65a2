"""The task that a command line asks for."""

from __future__ import annotations

import pytest

from broker.errors import InvalidInput
from hub.commands.bodies import an_object, given, pairs


def test_a_value_is_json_or_a_text() -> None:
    texts = ["n=1", "yes=true", 'list=["a"]', "name=nas-01", "empty=", "equation=a=b", 'quoted="1"']
    assert pairs("--param", texts) == {
        "n": 1,
        "yes": True,
        "list": ["a"],
        "name": "nas-01",
        "empty": "",
        "equation": "a=b",
        "quoted": "1",
    }


def test_a_label_is_always_a_text() -> None:
    assert pairs("--label", ["rack=7"], as_text=True) == {"rack": "7"}


@pytest.mark.parametrize("text", ["n", "=1", ""])
def test_a_pair_needs_a_name_and_a_value(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected name=value"):
        pairs("--param", [text])


def test_only_an_object_is_a_body() -> None:
    assert an_object("--body", '{"kind": "noop"}') == {"kind": "noop"}
    with pytest.raises(InvalidInput, match="a JSON object"):
        an_object("--body", "1")


def test_what_was_not_given_is_not_asked_for() -> None:
    assert given(kind="noop", site=None, params={}, priority=0) == {"kind": "noop", "priority": 0}
