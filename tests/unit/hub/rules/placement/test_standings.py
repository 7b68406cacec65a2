"""Things by a key that changes behind their back."""

from __future__ import annotations

from hypothesis import given, strategies as st

from hub.rules.placement.standings import SLACK, Standings

Keys = dict[str, tuple[int, str]]


def standings(keys: Keys) -> Standings[str, tuple[int, str]]:
    made: Standings[str, tuple[int, str]] = Standings(keys.get)
    for item in keys:
        made.tell(item)
    return made


def test_the_least_key_is_first() -> None:
    assert standings({"b": (2, "b"), "a": (1, "a"), "c": (3, "c")}).first() == "a"


def test_a_key_that_has_grown_is_noticed_without_a_word() -> None:
    keys: Keys = {"a": (1, "a"), "b": (2, "b")}
    made = standings(keys)
    keys["a"] = (3, "a")
    assert made.first() == "b"
    del keys["b"]
    assert made.first() == "a"


def test_whether_an_item_goes_further_up_is_told() -> None:
    keys: Keys = {"a": (5, "a")}
    made = standings(keys)
    assert not made.tell("a")
    keys["a"] = (3, "a")
    assert made.tell("a")
    del keys["a"]
    assert not made.tell("a")
    assert "a" not in made


def test_what_was_forgotten_is_not_found_until_it_is_told_again() -> None:
    made = standings({"a": (1, "a")})
    made.forget("a")
    assert made.first() is None
    assert made.tell("a")
    assert made.first() == "a"


def test_a_look_in_order_leaves_all_as_it_was() -> None:
    made = standings({"b": (2, "b"), "a": (1, "a"), "c": (3, "c")})
    assert list(made.in_order()) == ["a", "b", "c"]
    assert next(made.in_order()) == "a"
    assert list(made.in_order()) == ["a", "b", "c"]


def test_what_goes_up_and_down_for_ever_takes_no_more_memory() -> None:
    keys: Keys = {"still": (0, "still"), "busy": (9, "busy")}
    made = standings(keys)
    for turn in range(10_000):
        keys["busy"] = (9 - turn % 2, "busy")
        made.forget("busy")
        made.tell("busy")
    assert len(made._heap) <= 2 * len(keys) + SLACK + 1  # noqa: SLF001
    assert list(made.in_order()) == ["still", "busy"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9)), max_size=40))
def test_the_first_is_the_least_whatever_was_told(changes: list[tuple[str, int | None]]) -> None:
    keys: Keys = {}
    made = standings(keys)
    for item, key in changes:
        before = keys.pop(item, None)
        if key is not None:
            keys[item] = (key, item)
        if key is not None and (before is None or before[0] > key):
            made.tell(item)
        assert made.first() == min(keys, key=keys.__getitem__, default=None)
        assert list(made.in_order()) == sorted(keys, key=keys.__getitem__)
