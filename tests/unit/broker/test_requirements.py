"""What a task requires against what a worker has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from broker.messages import Bound, TaskSpec
from broker.requirements import unmet

if TYPE_CHECKING:
    from broker.messages import Requirement, Scalar


def one_of(*options: Scalar) -> Bound:
    return Bound.model_validate({"in": options})


SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@pytest.mark.parametrize(
    ("requirement", "value"),
    [
        (True, True),
        (False, False),
        (False, None),
        (1, 1.0),
        ("arm64", "arm64"),
        (Bound(min=512), 512),
        (Bound(max=2.5), 2),
        (Bound(min=1, max=3), 3),
        (one_of(*("a", 1)), "a"),
        (one_of(*(False, "a")), None),
        (Bound(), "anything"),
    ],
)
def test_what_holds(requirement: Requirement, value: Scalar | None) -> None:
    assert unmet({"x": requirement}, {} if value is None else {"x": value}) == []


@pytest.mark.parametrize(
    ("requirement", "value", "reason"),
    [
        (True, None, "x is missing, expected true"),
        (True, False, "x is false, expected true"),
        (True, 1, "x is 1, expected true"),
        (1, True, "x is true, expected 1"),
        ("arm64", "amd64", 'x is "amd64", expected "arm64"'),
        (Bound(min=512), 256, "x is 256, expected at least 512"),
        (Bound(min=512), None, "x is missing, expected at least 512"),
        (Bound(min=1), True, "x is true, expected at least 1"),
        (Bound(min=1), "lots", 'x is "lots", expected at least 1'),
        (Bound(min=1, max=3), 4, "x is 4, expected at least 1 and at most 3"),
        (one_of(*("a", 1)), "b", 'x is "b", expected one of "a", 1'),
        (one_of(*("a",)), None, 'x is missing, expected one of "a"'),
        (Bound(), None, "x is missing, expected any value"),
    ],
)
def test_what_does_not_hold_says_why(requirement: Requirement, value: Scalar | None, reason: str) -> None:
    assert unmet({"x": requirement}, {} if value is None else {"x": value}) == [reason]


def test_every_requirement_that_does_not_hold_is_named() -> None:
    spec = TaskSpec.model_validate({"kind": "noop", "requires": {"docker": True, "arch": "arm64", "gpu": False}})
    assert len(unmet(spec.requires, {"arch": "amd64"})) == 2


@given(st.dictionaries(st.text(min_size=1, max_size=3), SCALARS))
def test_a_worker_meets_its_own_capabilities(capabilities: dict[str, bool | int | float | str]) -> None:
    assert unmet(capabilities, capabilities) == []


@given(st.integers(), st.integers())
def test_min_is_the_mirror_of_max(bound: int, value: int) -> None:
    below = unmet({"x": Bound(min=bound)}, {"x": value})
    above = unmet({"x": Bound(max=-bound)}, {"x": -value})
    assert bool(below) == bool(above)
