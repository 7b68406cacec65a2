"""Which deliveries are new, and up to which all are safe."""

from __future__ import annotations

from hypothesis import given, strategies as st

from edge_agent.rules import letters as rules
from edge_agent.rules.letters import Received


def delivered(state: Received, *numbers: int) -> tuple[Received, list[int]]:
    new = []
    for number in numbers:
        state, is_new = rules.on_delivered(state, number)
        if is_new:
            new.append(number)
    return state, new


def acknowledged(*numbers: int) -> Received:
    state = Received()
    for number in numbers:
        state = rules.on_acknowledged(state, number)
    return state


def test_a_letter_that_comes_again_is_not_new() -> None:
    state, new = delivered(Received(), 1, 2)
    assert new == [1, 2]
    assert delivered(state, 1, 2, 3)[1] == [3]


def test_only_what_is_safe_without_a_hole_is_told() -> None:
    assert acknowledged(2, 3).through == 0
    assert acknowledged(2, 3, 1).through == 3
    assert acknowledged(2, 3, 1, 5).through == 3


def test_an_acknowledgement_that_comes_twice_changes_nothing() -> None:
    assert acknowledged(1, 1) == acknowledged(1)
    assert acknowledged(1, 3, 3, 1) == acknowledged(1, 3)


@given(st.permutations(range(1, 12)), st.integers(0, 11))
def test_whatever_the_order_all_below_the_first_hole_are_told_and_none_above(order: list[int], how_many: int) -> None:
    safe = order[:how_many]
    state = acknowledged(*safe)
    assert state.through + 1 not in safe
    assert all(number in safe for number in range(1, state.through + 1))
    assert state.early == {number for number in safe if number > state.through}
